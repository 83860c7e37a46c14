"""The progress file: a flush reads in it how far marks and backends have come."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.spool.progress import BACKENDS, MARKS, ProgressReader, ProgressWriter
from shipper.transport.channel import new_token

from ..support.forks import in_a_child


@pytest.fixture
def path(spool: Path) -> str:
    return str(spool / "progress")


@pytest.fixture
def writer(path: str) -> Iterator[ProgressWriter]:
    made = ProgressWriter(path)
    yield made
    made.close()


@pytest.fixture
def reader(path: str, writer: ProgressWriter) -> Iterator[ProgressReader]:
    made = ProgressReader(path)
    yield made
    made.close()


def test_a_mark_is_known_with_its_place_and_so_are_earlier_ones(writer: ProgressWriter, reader: ProgressReader) -> None:
    token = new_token()
    assert reader.mark(token, 1) is None

    writer.write_mark(token, 3, (7, 4096))

    assert reader.mark(token, 2) == reader.mark(token, 3) == (7, 4096)
    assert reader.mark(token, 4) is None
    assert reader.mark(new_token(), 1) is None


def test_backends_have_passed_a_place_only_when_each_of_them_has(
    writer: ProgressWriter, reader: ProgressReader
) -> None:
    writer.write_backend("trakerr", (7, 4096))
    writer.write_backend("jkool", (7, 4095))

    assert reader.have_passed(["trakerr"], (7, 4096))
    assert not reader.have_passed(["trakerr", "jkool"], (7, 4096))
    assert reader.have_passed(["trakerr", "jkool"], (6, 10**9))
    assert not reader.have_passed(["trakerr", "unknown"], (1, 0))

    writer.write_backend("jkool", (8, 0))
    assert reader.have_passed(["trakerr", "jkool"], (7, 4096))


def test_a_process_that_starts_forgets_what_the_last_one_wrote(path: str, reader: ProgressReader) -> None:
    """The journal may have been deleted since, and its segments may be numbered from 1 again."""
    first = ProgressWriter(path)
    first.write_backend("trakerr", (7, 4096))
    first.close()

    ProgressWriter(path).close()

    assert not reader.have_passed(["trakerr"], (1, 0))


def test_more_backends_than_slots_are_left_to_the_status_file(writer: ProgressWriter, reader: ProgressReader) -> None:
    for number in range(BACKENDS + 3):
        writer.write_backend(f"backend{number}", (1, 1))

    known = [reader.have_passed([f"backend{number}"], (1, 1)) for number in range(BACKENDS + 3)]
    assert known == [True] * BACKENDS + [False] * 3


def test_of_two_processes_with_the_same_slot_the_last_one_is_known(
    writer: ProgressWriter, reader: ProgressReader
) -> None:
    one, other = (5).to_bytes(8, "little"), (5 + 3 * MARKS).to_bytes(8, "little")

    writer.write_mark(one, 1, (1, 10))
    writer.write_mark(other, 1, (1, 20))

    assert reader.mark(one, 1) is None
    assert reader.mark(other, 1) == (1, 20)


def test_another_process_reads_what_is_written(writer: ProgressWriter, path: str) -> None:
    token = new_token()
    writer.write_mark(token, 1, (2, 30))

    def look() -> None:
        assert ProgressReader(path).mark(token, 1) == (2, 30)

    assert in_a_child(look) == 0


def test_a_slot_that_is_read_while_it_is_written_is_never_mixed(writer: ProgressWriter, reader: ProgressReader) -> None:
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            writer.write_backend("trakerr", (number, number))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(3000):
            for _, _, (segment, offset) in reader._read(0, 4096):
                assert segment == offset
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, os.urandom(50_000)], ids=["empty", "short", "noise"])
def test_a_damaged_file_has_no_answer(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    os.chmod(path, 0o600)
    reader = ProgressReader(path)

    assert reader.mark(new_token(), 1) is None
    assert not reader.have_passed(["trakerr"], (0, 0))
    reader.close()


def test_a_missing_file_has_no_answer(path: str) -> None:
    assert ProgressReader(path).mark(new_token(), 1) is None


def test_a_place_that_can_not_be_written_makes_the_writer_silent(spool: Path) -> None:
    writer = ProgressWriter(str(spool / "missing" / "progress"))

    writer.write_backend("trakerr", (1, 1))

    assert not writer.is_open
