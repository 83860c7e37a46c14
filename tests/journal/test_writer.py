"""The writer without splice, and after its segment was removed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.reader import Reader
from shipper.journal.segments import Position, segment_path
from shipper.journal.writer import Writer
from shipper.transport import frame

from ..support.disks import tmpfs


class Pipe:
    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)

    def put(self, *seqs: int, size: int = 3000) -> None:
        for seq in seqs:
            os.write(self.writing, frame.encode(b"." * size, token=b"tokentok", seq=seq, pid=1)[0])


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reading)
    os.close(made.writing)


@pytest.fixture
def journal(spool: Path) -> Path:
    (spool / "journal").mkdir(0o700)
    return spool / "journal"


def seqs(reader: Reader) -> list[int]:
    found = []
    while (stretch := reader.read()) is not None:
        assert not stretch.scan.damage
        found += [view.seq for view in stretch.scan.frames]
    return found


def take_all(writer: Writer, pipe: Pipe) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            writer.splice(pipe.reading, 1 << 20)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def splice(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "splice", splice)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
def test_where_splice_is_refused_bytes_are_copied(
    journal: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, number)
    pipe.put(*range(10))

    with Writer(str(journal)) as writer:
        take_all(writer, pipe)

    assert seqs(Reader(str(journal), Position(1, 0))) == list(range(10))


def test_what_was_copied_to_a_full_disk_is_written_later(
    spool: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, errno.ENOSYS)
    (spool / "disk").mkdir()
    with tmpfs(spool / "disk", "64k") as disk:
        pipe.put(*range(10))
        with Writer(str(disk)) as writer:
            writer.open()
            (disk / "ballast").write_bytes(b"." * 40_000)
            with pytest.raises(OSError, match="No space"):
                take_all(writer, pipe)
            assert not writer.ends_whole()

            os.unlink(disk / "ballast")
            take_all(writer, pipe)

        assert seqs(Reader(str(disk), Position(1, 0))) == list(range(10))


def test_a_segment_that_was_removed_is_made_again_with_its_content(journal: Path, pipe: Pipe) -> None:
    with Writer(str(journal)) as writer:
        reader = Reader(str(journal), Position(1, 0))
        pipe.put(1, 2)
        writer.splice(pipe.reading, 1 << 20)
        assert seqs(reader) == [1, 2]
        assert not writer.restore()

        os.unlink(segment_path(str(journal), 1))
        pipe.put(3)
        writer.splice(pipe.reading, 1 << 20)
        assert seqs(reader) == [3]
        journal.rmdir()
        assert writer.restore()

        pipe.put(4)
        writer.splice(pipe.reading, 1 << 20)
        assert seqs(reader) == [4]
        assert seqs(Reader(str(journal), Position(1, 0))) == [1, 2, 3, 4]
        reader.close()
