"""The writer: full disks, the border of a frame, rotation, no splice, a removed segment."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.cursors.cursor import Cursor
from shipper.journal.reader import Reader
from shipper.journal.segments import Position, segment_path
from shipper.journal.writer import Writer, drain_pipe
from shipper.spool.files import open_file
from shipper.transport import frame

from ..support.disks import tmpfs
from ..support.journals import Open, deliver, read_seqs, segment, whole
from ..support.waiting import PATIENCE


def test_a_writer_goes_on_at_the_end_of_the_newest_segment(spool: Path) -> None:
    segment(spool, 1, b"")
    segment(spool, 4, whole(b"x", 0))
    with contextlib.closing(Writer(str(spool), segment_bytes=1000)) as writer:
        writer.append(whole(b"x", 1))
        assert writer.position == Position(4, len(whole(b"x", 0) * 2))
        assert writer.ends_whole()


@pytest.mark.parametrize("cut", [1, 4, 30, 44, 60])
def test_a_writer_knows_when_the_journal_ends_inside_a_frame(spool: Path, cut: int) -> None:
    segment(spool, 1, whole(b"x" * 3000, 0) * 9 + whole(b"x" * 3000, 1)[:cut])
    with contextlib.closing(Writer(str(spool), segment_bytes=1000)) as writer:
        assert not writer.ends_whole()


FULL_DISK = """
import os, resource, sys
from shipper.transport import frame
from shipper.journal.writer import Writer, drain_pipe
folder = sys.argv[1]
pipe, end = os.pipe2(os.O_NONBLOCK)
def put(seq):
    os.write(end, frame.encode(b"." * 1000, token=b"tokentok", seq=seq, pid=1)[0])
writer = Writer(folder, segment_bytes=1 << 30)
for seq in range(40):
    put(seq)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
failed = 0
for _ in range(3):
    try:
        writer.splice(pipe, 1 << 22)
    except OSError:
        failed += 1
assert failed, "the disk was never full"
assert not writer.ends_whole()
try:
    writer.append(b"." * 100)
    raise SystemExit("appended to a full disk")
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
try:
    while writer.splice(pipe, 1 << 22):
        pass
except BlockingIOError:
    pass
assert writer.ends_whole()
"""


def test_a_disk_that_was_full_loses_and_damages_nothing(spool: Path, cursor: Open) -> None:
    subprocess.run([sys.executable, "-c", FULL_DISK, str(spool)], check=True, timeout=PATIENCE)

    assert deliver(cursor()) == list(range(40))


def test_whole_frames_stay_of_what_a_full_disk_took_in_part(small_disk: Path) -> None:
    """If they were cut off, a reader that has read them already would miss the frames written in their place."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"." * 150_000)
    left = b"".join(whole(b"x" * 2000, seq) for seq in range(100))
    with contextlib.closing(Writer(str(small_disk), segment_bytes=1 << 30)) as writer:
        reading = Reader(str(small_disk), Position(1, 0))
        done = threading.Event()
        seen: list[int] = []

        def follow() -> None:
            while not done.is_set():
                seen.extend(read_seqs(reading))

        following = threading.Thread(target=follow)
        following.start()
        while left:
            try:
                left = left[writer.append(left) :]
            except OSError:
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        left = left[writer.append(left) :]
                ballast.unlink()
                writer.append(whole(b"y", 100))
        writer.append(whole(b"y", 101))
        done.set()
        following.join()
        while more := read_seqs(reading):
            seen += more

        assert sorted(seen) == list(range(102))
        assert reading.position == writer.position
        reading.close()


def test_a_real_full_disk_is_recovered_from_without_a_restart(small_disk: Path) -> None:
    pipe, end = os.pipe2(os.O_NONBLOCK)
    with contextlib.closing(Writer(str(small_disk), segment_bytes=1 << 30)) as writer:
        reading = Cursor(str(small_disk / "cursor.json"), str(small_disk))
        writer.append(whole(b"x", 0))
        assert deliver(reading) == [0]
        for seq in range(1, 31):
            os.write(end, whole(b"x" * 2000, seq))
        ballast = small_disk / "ballast"
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"." * 4096) == 4096:
                pass

        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                writer.splice(pipe, 1 << 22)
        assert not writer.ends_whole()
        with contextlib.suppress(OSError):
            deliver(reading)
        ballast.unlink()
        with contextlib.suppress(BlockingIOError):
            while writer.splice(pipe, 1 << 22):
                pass

        deliver(reading)
        reading.commit()
        assert reading.counts == {"delivered": 31}
        again = Cursor(str(small_disk / "cursor.json"), str(small_disk))
        assert again.position == reading.position == writer.position
        again.close()
        reading.close()
    os.close(pipe)
    os.close(end)


def test_a_rotation_that_fails_when_the_next_segment_is_there_goes_on_in_that_one(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that has gone on to the next segment does not come back to this one."""

    def made_and_failed(path: str, flags: int) -> int:
        monkeypatch.undo()
        os.close(open_file(path, flags))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    one, other = (frame.encode(b"." * 100, token=b"tokentok", seq=seq, pid=os.getpid())[0] for seq in range(2))
    writer = Writer(str(spool), segment_bytes=100)
    reader = Reader(str(spool), Position(1, 0))
    writer.append(one)
    monkeypatch.setattr("shipper.journal.writer.open_file", made_and_failed)

    assert not writer.rotate_if_due()
    found = [reader.read(), reader.read()]
    writer.append(other)
    found.append(reader.read())

    assert [view.seq for stretch in found if stretch is not None for view in stretch.scan.frames] == [0, 1]
    reader.close()
    writer.close()


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


def test_draining_takes_what_is_in_the_pipe_at_this_moment_and_leaves_what_is_written_meanwhile(
    journal: Path, pipe: Pipe
) -> None:
    """A busy writer puts one more event after each step."""
    pipe.put(0, 1, 2)

    with Writer(str(journal)) as writer:

        def splice(most: int) -> int:
            moved = writer.splice(pipe.reading, min(most, 3000))
            pipe.put(9, size=10)
            return moved

        drain_pipe(pipe.reading, splice)

    assert seqs(Reader(str(journal), Position(1, 0))) == [0, 1, 2]
