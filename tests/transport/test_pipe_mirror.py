"""Pipe mirrors: what is in the pipe is in the mirrors of the processes that wrote it, also after their death."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shipper.transport import frame
from shipper.transport.memory import pipe_mirror
from shipper.transport.memory.orphans import OrphanedMirror, orphaned_mirrors
from shipper.transport.memory.pipe_mirror import BLOCK_BYTES, KEPT_BLOCKS, MAX_BYTES, PipeMirror
from shipper.transport.memory.shared_file import HEAD_BYTES
from shipper.transport.pipe import bytes_in_pipe, grow_pipe
from shipper.transport.producer import Producer
from shipper.transport.queue import RecordQueue

from ..support.disks import tmpfs
from ..support.forks import forked, in_a_child

TOKEN = b"tokentok"


def framed(seq: int, size: int) -> list[bytes]:
    return frame.encode(b"." * size, token=TOKEN, seq=seq, pid=os.getpid())


def none(seq: int, part: int) -> bool:
    return False


def found(folder: str, journaled: Callable[[int, int], bool] = none) -> list[tuple[int, int]]:
    """Number and part of every frame in the mirrors of processes that are gone."""
    views = []
    for each in orphaned_mirrors(folder):
        scan = frame.scan(each.lost(journaled), complete=True)
        assert not scan.damage
        views += [(view.seq, view.part) for view in scan.frames]
    return views


class Pipe:
    """A real pipe."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self.writing, False)
        grow_pipe(self.writing)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)

    def waiting(self) -> int:
        return bytes_in_pipe(self.reading)

    def write(self, piece: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            return os.write(self.writing, piece) == len(piece)
        return False

    def take(self, most: int) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(self.reading, most)
        return b""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def folder(spool: Path) -> str:
    return str(spool / "mirrors")


Make = Callable[[], PipeMirror]


@pytest.fixture
def make(folder: str, pipe: Pipe) -> Iterator[Make]:
    made = []

    def begin() -> PipeMirror:
        made.append(PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid()))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def memory_of(folder: str) -> int:
    """Return how many bytes of memory the only mirror takes."""
    (path,) = Path(folder).iterdir()
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("seed", range(12))
def test_what_is_in_the_pipe_is_in_the_mirror(seed: int, make: Make, pipe: Pipe) -> None:
    """With small and large events, and a reader of changing speed."""
    chance = random.Random(seed)
    written = make()
    waiting = b""  # what is in the pipe, front first
    seq = 0
    for _ in range(40):
        largest = chance.choice([100, 300, 12_000])
        for _ in range(chance.randrange(1, 400)):
            for piece in framed(seq, chance.randrange(largest)):
                if pipe.write(piece):
                    written.note(piece)
                    waiting += piece
            seq += 1
        waiting = waiting[len(pipe.take(chance.choice([0, 0, 10_000, 300_000, 1 << 20]))) :]

        (path,) = Path(written._path).parent.iterdir()
        kept = {(view.seq, view.part) for view in frame.scan(path.read_bytes()[HEAD_BYTES:], complete=True).frames}
        inside = {(view.seq, view.part) for view in frame.scan(waiting, complete=True).frames}
        assert inside <= kept


def test_the_mirror_of_a_living_process_is_not_taken(make: Make, folder: str) -> None:
    written = make()
    written.note(framed(0, 10)[0])

    assert in_a_child(lambda: os._exit(len(list(orphaned_mirrors(folder))))) == 0


def test_the_mirror_of_a_killed_process_has_what_is_not_in_the_journal(folder: str, pipe: Pipe) -> None:
    def work() -> None:
        written = PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid())
        for seq in range(100):
            for piece in framed(seq, 5000):
                written.note(piece)
        os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(work)

    assert found(folder, lambda seq, part: seq < 97) == [(97, 0), (97, 1), (98, 0), (98, 1), (99, 0), (99, 1)]


def test_marks_and_incomplete_frames_are_not_recovered(folder: str, pipe: Pipe) -> None:
    def work() -> None:
        written = PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid())
        written.note(framed(0, 10)[0])
        written.note(frame.encode(b"", token=TOKEN, seq=1, pid=os.getpid(), flags=frame.MARK)[0])
        written.note(framed(2, 100)[0][:50])
        os._exit(0)

    in_a_child(work)

    assert found(folder) == [(0, 0)]


def test_a_frame_inside_an_event_is_not_recovered(folder: str, pipe: Pipe) -> None:
    """An event may contain bytes that look like a frame, and the header of its own frame may be overwritten."""
    inside = frame.encode(b"x", token=b"someelse", seq=7, pid=1)[0]

    def work() -> None:
        written = PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid())
        written.note(inside)
        written.note(framed(0, 10)[0])
        os._exit(0)

    in_a_child(work)

    assert found(folder) == [(0, 0)]


@pytest.mark.parametrize("mirrors", [1, 3])
def test_mirrors_leave_half_of_the_memory_to_overflows(spool: Path, pipe: Pipe, mirrors: int) -> None:
    """Docker's default for /dev/shm is 64 MB, shared by all workers."""
    (spool / "m").mkdir()
    with tmpfs(spool / "m", "1m") as memory:
        made = []
        for number in range(mirrors):
            written = PipeMirror(str(memory / "t"), pipe.waiting, token=b"tokento%d" % number, pid=os.getpid())
            made.append(written)
            for seq in range(1000):
                written.note(framed(seq, 1000)[0])
            while pipe.write(b"." * 4096):
                pass
            for seq in range(1000):
                written.note(framed(seq, 1000)[0])
        room = os.statvfs(memory)
        for written in made:
            written.close()

    assert room.f_bavail >= room.f_blocks // 2 - BLOCK_BYTES // room.f_frsize * KEPT_BLOCKS * mirrors


def test_a_mirror_stays_small_while_the_pipe_is_read(make: Make, pipe: Pipe, folder: str) -> None:
    written = make()
    for seq in range(20_000):
        (piece,) = framed(seq, 100)
        assert pipe.write(piece)
        written.note(piece)
        if seq % 20 == 0:
            pipe.take(1 << 20)

    assert memory_of(folder) < HEAD_BYTES + (KEPT_BLOCKS + 1) * BLOCK_BYTES


def test_a_mirror_grows_while_the_pipe_is_not_read_and_shrinks_again(make: Make, pipe: Pipe, folder: str) -> None:
    written = make()
    seq = 0
    while pipe.write(framed(seq, 1000)[0]):
        written.note(framed(seq, 1000)[0])
        seq += 1
    grown = memory_of(folder)
    while pipe.take(1 << 20):
        pass
    for more in range(seq, seq + 200):
        written.note(framed(more, 1000)[0])

    assert seq * 1000 < grown <= HEAD_BYTES + MAX_BYTES
    assert memory_of(folder) < HEAD_BYTES + (KEPT_BLOCKS + 1) * BLOCK_BYTES


def kept(written: PipeMirror) -> set[int]:
    """Sequence numbers of the frames in a mirror."""
    data = Path(written._path).read_bytes()[HEAD_BYTES:]
    return {view.seq for view in frame.scan(data, complete=True).frames}


def fired(moment: int, handler: Callable[[], None], work: Callable[[], None]) -> bool:
    """Do the work, and run the handler at its call or return number ``moment`` (from 0); False when it has fewer."""
    moments = iter(range(moment + 1))

    def look(*event: object) -> None:
        if next(moments, moment) == moment:
            sys.setprofile(None)
            handler()

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        work()
    finally:
        came = sys.getprofile() is not look
        sys.setprofile(before)
    return came


@pytest.mark.parametrize("seen", [0, 1, 20, 36])
def test_a_signal_handler_may_log_at_any_moment(folder: str, pipe: Pipe, seen: int) -> None:
    """Python runs signal handlers between calls; most calls are made when a block is full."""
    for moment in itertools.count():
        written = PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid())
        for seq in range(seen * 8):
            written.note(framed(1000 + seq, 3950)[0])
        assert pipe.write(b"." * 4096)  # the pipe is not empty, so no block may be overwritten yet
        for seq in range(10):
            written.note(framed(seq, 3000)[0])

        def handler(written: PipeMirror = written) -> None:
            for seq in range(100, 105):
                written.note(framed(seq, 50)[0])

        came = fired(moment, handler, lambda written=written: written.note(framed(10, 3000)[0]))  # type: ignore[misc]
        written.note(framed(11, 20)[0])

        assert kept(written) >= {*range(12), *(range(100, 105) if came else ())}
        pipe.take(1 << 20)
        written.close()
        if not came:
            return


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="from 3.11 on a jump forward does not switch threads")
def test_threads_never_note_two_frames_in_one_place(make: Make) -> None:
    written = make()
    written._end = 1 << 62
    written._memory.close()
    before, interval = written._at, sys.getswitchinterval()

    def work() -> None:
        for _ in range(50_000):
            written.note(b".")

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)

    assert written._at == before + 200_000


def test_closing_removes_the_mirror_when_the_pipe_is_empty(make: Make, pipe: Pipe, folder: str) -> None:
    written = make()
    written.note(framed(0, 10)[0])

    written.close()

    assert os.listdir(folder) == []


def test_closing_leaves_the_mirror_while_the_pipe_is_not_empty(make: Make, pipe: Pipe, folder: str) -> None:
    written = make()
    (piece,) = framed(0, 10)
    assert pipe.write(piece)
    written.note(piece)

    written.close()
    written.note(framed(1, 10)[0])  # as a thread that is late does: no error

    assert found(folder) == [(0, 0)]


def test_without_memory_the_latest_frames_are_kept(spool: Path, pipe: Pipe) -> None:
    (spool / "m").mkdir()
    with tmpfs(spool / "m", "128k") as memory:
        written = PipeMirror(str(memory / "t"), pipe.waiting, token=TOKEN, pid=os.getpid())
        seq = 0
        while pipe.write(framed(seq, 1000)[0]):
            written.note(framed(seq, 1000)[0])
            seq += 1
        (path,) = (memory / "t").iterdir()
        kept = {view.seq for view in frame.scan(path.read_bytes()[HEAD_BYTES:], complete=True).frames}
        written._memory.close()

    assert set(range(seq - 50, seq)) <= kept


def test_a_queue_works_without_memory_for_a_mirror(queue: RecordQueue, spool: Path) -> None:
    (spool / "memory").mkdir(0o700)
    with tmpfs(spool / "memory", "16k"):
        for number in range(100):
            queue.put_nowait(b"%d" % number)

        assert [queue.get_nowait() for _ in range(100)] == [b"%d" % number for number in range(100)]
        assert os.listdir(spool / "memory") == []


def test_there_is_no_mirror_on_a_disk(spool: Path) -> None:
    """Writing to a page of the mirror could have to wait for the disk."""
    os.mkfifo(spool / "queue", 0o600)
    queue = RecordQueue(str(spool / "queue"), overflow=str(spool / "overflow"))
    queue.put_nowait(b"x")

    assert not (spool / "overflow").exists()
    assert queue.get_nowait() == b"x"
    queue.close()


def test_each_frame_of_a_killed_process_is_in_its_mirror_or_in_its_overflow(queue: RecordQueue, spool: Path) -> None:
    """Also what was drained from the overflow into the pipe."""

    def work() -> None:
        for number in range(300):
            queue.put_nowait(b"." * 9000 + b"%d" % number)
        before = queue.waiting
        os.read(queue._pipe.open(), 500_000)
        while queue.waiting > before - 300_000:
            queue._channel.overflow.drain(queue._channel.write)
        os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(work)

    folder = str(spool / "memory")
    (waiting,) = (path for path in Path(folder).iterdir() if path.suffix != pipe_mirror.SUFFIX)
    begin = int.from_bytes(waiting.read_bytes()[24:32], "little")
    in_overflow = {(view.seq, view.part) for view in frame.scan(waiting.read_bytes()[begin:], complete=True).frames}
    in_mirror = set(found(folder))
    assert len(in_overflow & in_mirror) <= 1  # the frame that another thread was moving at the kill
    assert in_overflow | in_mirror >= {(seq, part) for seq in range(60, 300) for part in range(3)}


@pytest.mark.parametrize("fork", [os.fork, ctypes.PyDLL(None).fork])
def test_a_forked_child_has_a_mirror_of_its_own(queue: RecordQueue, spool: Path, fork: Callable[[], int]) -> None:
    queue.put_nowait(b"parent")
    mirrors = spool / "memory"
    before = {path.name: path.read_bytes() for path in mirrors.iterdir()}

    def work() -> None:
        queue.put_nowait(b"child")
        os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(work, fork)

    assert {name: (mirrors / name).read_bytes() for name in before} == before
    assert len(list(mirrors.iterdir())) == 2
    assert found(str(mirrors)) == [(0, 0)]


def test_a_child_that_never_logs_does_not_keep_the_mirror_of_its_dead_parent(spool: Path) -> None:
    """The child has inherited the lock on the mirror."""
    os.mkfifo(spool / "queue", 0o600)
    pids, told = os.pipe()

    def parent() -> None:
        queue = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
        queue.put_nowait(b"x")
        os.write(told, b"%d" % forked(signal.pause, ctypes.PyDLL(None).fork))
        os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(parent)
    idle = int(os.read(pids, 20))
    try:
        assert found(str(spool / "memory")) == [(0, 0)]
    finally:
        os.kill(idle, signal.SIGKILL)
        os.close(pids)
        os.close(told)


def test_events_outlive_a_process_whose_package_was_removed_before_its_first_one(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module `life`, which describes the process in its mirror, can't be imported any more."""
    monkeypatch.setitem(sys.modules, "shipper.transport.memory.life", None)
    os.mkfifo(spool / "queue", 0o600)
    reader = os.open(spool / "queue", os.O_RDONLY | os.O_NONBLOCK)

    def work() -> None:
        queue = Producer(str(spool / "queue"), overflow=str(spool / "memory"), is_watched=True)
        queue.open()
        assert [queue.put_sequence(b"x", 20), queue.put_sequence(b"y", 20)] == [0, 1]

    assert in_a_child(work) == 0
    os.close(reader)
    assert found(str(spool / "memory")) == [(0, 0), (1, 0)]


def test_a_removed_mirror_is_not_found_again(folder: str, pipe: Pipe) -> None:
    in_a_child(lambda: PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid()).note(framed(0, 1)[0]))

    (each,) = orphaned_mirrors(folder)
    assert isinstance(each, OrphanedMirror)
    each.remove()

    assert os.listdir(folder) == []
    assert list(orphaned_mirrors(folder)) == []


def test_a_mirror_that_a_cleaner_removed_is_empty(tmp_path: Path) -> None:
    assert OrphanedMirror(str(tmp_path / "gone.mirror"), b"12345678").lost(none) == b""


def resident(path: str) -> int:
    """Resident bytes of a file that this process has mapped."""
    sizes, mine = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            mine = words[-1] == path
        elif mine and words[0] == "Rss:":
            sizes.append(int(words[1]) * 1024)
    return sum(sizes)


def test_a_long_mirror_is_not_resident_in_its_process(folder: str, pipe: Pipe) -> None:
    """The file is as long as the pipe's content; a worker's RSS is not."""
    mirror = PipeMirror(folder, pipe.waiting, token=TOKEN, pid=os.getpid())
    for seq in range(200):
        for piece in framed(seq, 3000):
            assert pipe.write(piece)
            mirror.note(piece)
    (path,) = Path(folder).iterdir()

    assert os.stat(path).st_blocks * 512 > 600_000
    assert resident(str(path)) <= (KEPT_BLOCKS + 1) * BLOCK_BYTES + HEAD_BYTES
    while pipe.take(1 << 20):
        pass
    mirror.close()
