"""The reader: missing and foreign segments, damage, the end of a journal that is being written."""
from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from shipper.journal import reader as journal
from shipper.journal.entry import DELIVERED
from shipper.journal.reader import HALF_FRAME_SECONDS, Reader
from shipper.journal.segments import Position, segment_path, segments
from shipper.journal.writer import Writer

from ..support.descriptors import few_descriptors
from ..support.journals import MUCH, Clock, Open, deliver, read_seqs, segment, whole
from ..support.waiting import scaled


def test_missing_empty_and_foreign_segments_are_passed_over(cursor: Open, spool: Path) -> None:
    segment(spool, 1, whole(b"x", 0))
    segment(spool, 3, b"")
    segment(spool, 4, b"what is this?")
    segment(spool, 5, whole(b"x", 1))
    (spool / "000000000006.seg").symlink_to("/etc/passwd")
    (spool / "000000000007.seg").mkdir()
    os.mkfifo(spool / "000000000008.seg")
    segment(spool, 9, whole(b"x", 2))
    os.link(segment_path(str(spool), 9), spool / "elsewhere")
    segment(spool, 10, whole(b"x", 3)[:-1])
    segment(spool, 11, whole(b"x", 4))
    for name in ("notes.txt", "x.seg", "-1.seg", "٣.seg", ".seg"):
        (spool / name).touch()

    assert deliver(cursor()) == [0, 1, 4]
    assert segments(str(spool)) == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_an_unchanged_folder_is_not_listed_again(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment(spool, 1, whole(b"x", 0))
    _changed(spool, time.time() - 10)
    looks: list[str] = []
    listdir = os.listdir

    def looking(path: str) -> list[str]:
        looks.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", looking)
    with contextlib.closing(Reader(str(spool), Position(1, 0))) as reader:
        assert read_seqs(reader) == [0]
        for _ in range(5):
            assert read_seqs(reader) == []
        assert len(looks) == 1

        segment(spool, 3, whole(b"x", 1))

        assert read_seqs(reader) == [1]


@pytest.mark.parametrize("age", [0.0, -3600.0], ids=["just now", "in the future"])
def test_a_segment_is_seen_that_came_at_the_same_time_as_a_look(spool: Path, age: float) -> None:
    """A file system's clock may stand still for as long as two seconds."""
    segment(spool, 1, whole(b"x", 0))
    now = time.time() - age
    _changed(spool, now)
    with contextlib.closing(Reader(str(spool), Position(1, 0))) as reader:
        assert read_seqs(reader) == [0]
        assert read_seqs(reader) == []
        segment(spool, 2, whole(b"x", 1))
        _changed(spool, now)

        assert read_seqs(reader) == [1]


def _changed(folder: Path, at: float) -> None:
    os.utime(folder, (at, at))


def test_a_segment_that_can_not_be_opened_for_now_is_not_passed_over(spool: Path) -> None:
    """Too few descriptors are an error after which to try again, and no reason to skip a segment."""
    segment(spool, 1, whole(b"x", 0))
    segment(spool, 2, whole(b"x", 1))
    reader = Reader(str(spool), Position(1, 0))
    assert reader._later() == 2
    with few_descriptors(0), pytest.raises(OSError, match="Too many open files"):
        reader.read()

    assert read_seqs(reader) == [0]
    reader.close()


def test_events_that_were_taken_are_not_forgotten_when_the_journal_can_not_be_read_on(
    writer: Writer, cursor: Open
) -> None:
    """Too few descriptors: the look for the next segment fails when the event before it has already been read."""
    reading = cursor()
    writer.append(whole(b"x", 0))
    assert deliver(reading) == [0]
    writer.append(whole(b"x", 1))

    with few_descriptors(0):
        (entry,) = reading.read(MUCH, MUCH)
        with pytest.raises(OSError, match="Too many open files"):
            reading.read(MUCH, MUCH)

    reading.settle(entry, DELIVERED)
    writer.append(whole(b"x", 2))
    assert deliver(reading) == [2]
    assert reading.counts == {DELIVERED: 3}


def test_a_half_frame_at_the_end_is_passed_once_its_rest_is_overdue(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    writer.append(whole(b"x" * 200, 0)[:100] + whole(b"y", 1))
    reading = cursor()

    assert deliver(reading) == []
    clock.now += HALF_FRAME_SECONDS
    assert deliver(reading) == [1]


@pytest.mark.parametrize("first", [0, 1, 4095])
def test_bytes_in_an_event_that_look_like_a_frame_are_no_frame_where_a_read_ends(
    writer: Writer, cursor: Open, first: int
) -> None:
    forged = whole(b"forged", 666) * 20
    size, seq = 0, 0
    while size < journal.CHUNK * 2:
        event = whole(b"." * (first if not seq else 0) + forged, seq)
        writer.append(event)
        size, seq = size + len(event), seq + 1

    assert deliver(cursor()) == list(range(seq))


def test_bytes_at_the_end_that_are_no_frame_count_as_damage_after_a_while(
    spool: Path, writer: Writer, cursor: Open, clock: Clock
) -> None:
    """A reader may see zeros where the writer is cutting off half a frame at that moment."""
    writer.append(whole(b"x", 0))
    reading = cursor()
    assert deliver(reading) == [0]
    path = Path(segment_path(str(spool), 1))
    good = path.stat().st_size

    os.truncate(path, good + 100)
    clock.now += HALF_FRAME_SECONDS - 0.1
    assert deliver(reading) == []
    os.truncate(path, good)
    writer.append(whole(b"y", 1))
    assert deliver(reading) == [1]

    os.truncate(path, path.stat().st_size + 100)
    assert deliver(reading) == []
    clock.now += HALF_FRAME_SECONDS
    assert deliver(reading) == []
    assert reading.position.offset == path.stat().st_size


class TornReader(Reader):
    """A reader that sees zeros in the middle at first, as while half a frame is cut off and written again."""

    is_torn = True

    def _chunk(self) -> bytes:
        data = super()._chunk()
        if not self.is_torn:
            return data
        self.is_torn = False
        size = len(whole(b"x", 0))
        return data[:size] + bytes(size) + data[2 * size :]


def test_what_the_writer_was_just_writing_is_no_damage(spool: Path) -> None:
    segment(spool, 1, b"".join(whole(b"x", seq) for seq in range(4)))

    with contextlib.closing(TornReader(str(spool), Position(1, 0))) as reader:
        assert read_seqs(reader) == [0, 1, 2, 3]
        assert not reader.is_torn


def test_a_reader_passes_deleted_segments(writer: Writer, cursor: Open, spool: Path) -> None:
    for seq in range(60):
        writer.append(whole(b"x" * 100, seq))
        writer.rotate_if_due()
    reading = cursor()
    deliver(reading, 1)
    for number in segments(str(spool))[1:-1]:
        os.unlink(segment_path(str(spool), number))

    rest = deliver(reading)

    assert rest[-1] == 59
    assert rest == sorted(rest)


def test_many_small_events_are_read_quickly(spool: Path, cursor: Open) -> None:
    count = 50_000
    segment(spool, 1, b"".join(whole(b"x" * 150, seq) for seq in range(count)))
    reading = cursor()
    began = time.process_time()

    seen = 0
    while entries := reading.read(500, MUCH):
        seen += len(entries)
        for entry in entries:
            reading.settle(entry, DELIVERED)
        reading.commit()

    assert seen == count
    assert time.process_time() - began < scaled(count * 20e-6)


def test_reading_one_by_one_costs_no_more_than_reading_many(spool: Path, cursor: Open) -> None:
    count = 5000
    segment(spool, 1, b"".join(whole(b"x" * 150, seq) for seq in range(count)))
    reading = cursor()
    began = time.process_time()

    while entries := reading.read(1, MUCH):
        reading.settle(entries[0], DELIVERED)

    assert time.process_time() - began < scaled(count * 60e-6)
