"""The overflow: limited, in order, and still there when its process is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.transport import frame
from shipper.transport.drops import LEVELS, TABLE, level_name
from shipper.transport.memory import shared_file
from shipper.transport.memory.orphans import OrphanedOverflow, living_drops, orphaned_overflows
from shipper.transport.memory.overflow import DROPS_AT, Overflow
from shipper.transport.memory.shared_file import HEAD_BYTES, prepare_folder

from ..support.disks import tmpfs
from ..support.waiting import wait_until

TOKEN = b"tokentok"


def frames(seq: int, size: int = 1000) -> list[bytes]:
    return frame.encode(b"." * size, token=TOKEN, seq=seq, pid=os.getpid())


def seqs(data: bytes) -> list[int]:
    found = frame.scan(data, complete=True)
    assert found.damage == []
    return [view.seq for view in found.frames]


Open = Callable[..., Overflow]


@pytest.fixture
def folder(spool: Path) -> str:
    return str(spool / "overflow")


@pytest.fixture
def overflow(folder: str) -> Iterator[Overflow]:
    made = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=100_000)
    yield made
    made.close()


class Pipe:
    """A pipe that takes ``room`` frames, then none."""

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.data = b""

    def __call__(self, piece: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.data += piece
        return True


def taken(folder: str) -> list[OrphanedOverflow]:
    found = list(orphaned_overflows(folder, ()))
    for each in found:
        each.close()
    return found


def drained(overflow: Overflow, pipe: Pipe) -> list[int]:
    while not overflow.drain(pipe):
        pass
    return seqs(pipe.data)


def child(work: Callable[[], None]) -> int:
    """Do the work in a child that then waits to be killed; return its pid once the work is done."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        work()
        os.write(done, b"!")
        signal.pause()
    os.close(done)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_no_file_is_made_before_the_first_append(overflow: Overflow, folder: str) -> None:
    assert not os.path.exists(folder)
    assert not overflow.busy
    assert overflow.drain(Pipe())


@given(st.lists(st.one_of(st.just("drain"), st.integers(0, 9000)), max_size=40), st.integers(0, 3))
def test_frames_come_out_in_the_order_they_went_in(steps: list[str | int], room: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as above:
        overflow = Overflow(os.path.join(above, "o"), token=TOKEN, pid=1, limit=10**6)
        pipe, stored = Pipe(), []
        for number, step in enumerate(steps):
            if isinstance(step, int):
                pieces = frames(number, step)
                assert overflow.append(pieces, 20)
                stored += [number] * len(pieces)
            else:
                pipe.room = room
                overflow.drain(pipe)
        pipe.room = 10**9

        assert drained(overflow, pipe) == stored
        assert overflow.waiting == 0
        overflow.close()


def test_the_last_quarter_is_kept_for_warnings(overflow: Overflow) -> None:
    while overflow.append(frames(0), 20):
        pass
    low = overflow.waiting
    while overflow.append(frames(0), 30):
        pass

    assert 74_000 - 1044 < low <= 75_000
    assert 99_000 - 1044 < overflow.waiting <= 100_000
    assert overflow.append(frames(1), 10, begun=True)


def test_a_file_that_is_never_quite_empty_does_not_grow_for_ever(overflow: Overflow) -> None:
    pipe = Pipe()
    overflow.append(frames(0, 4000), 20)
    for seq in range(3000):
        overflow.append(frames(seq, 4000), 20)
        pipe.room, pipe.data = 1, b""
        overflow.drain(pipe)

    assert overflow.busy
    assert os.stat(overflow.path).st_blocks * 512 < 3_000_000
    assert drained(overflow, Pipe())[-1] == 2999


def test_the_overflow_of_a_killed_process_is_adopted(folder: str) -> None:
    def work() -> None:
        owner = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6)
        for seq in range(20):
            owner.append(frames(seq), 20)
        owner.drain(Pipe(5), most=5)
        owner.count("queue_full", 10)
        owner.count("queue_full", 10)
        owner.count("redact", 40)

    pid = child(work)
    assert taken(folder) == []
    kill(pid)

    (found,) = orphaned_overflows(folder, ())
    assert seqs(found.frames) == list(range(5, 20))
    assert found.drops == {"queue_full": {"DEBUG": 2}, "redact": {"ERROR": 1}}
    assert (found.token, found.pid) == (TOKEN, pid)
    assert list(orphaned_overflows(folder, {found.path})) == []
    found.remove()
    assert os.listdir(folder) == []


def test_the_file_of_a_living_process_is_not_adopted_but_its_drops_are_read(overflow: Overflow, folder: str) -> None:
    overflow.append(frames(0), 20)
    overflow.count("queue_full", 20)

    assert taken(folder) == []
    assert list(living_drops(folder).values()) == [{"queue_full": {"INFO": 1}}]


def test_a_forked_child_does_not_keep_the_file_of_its_dead_parent(folder: str) -> None:
    """Also when the child never logs."""

    def work() -> None:
        owner = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6)
        owner.append(frames(0), 20)

        def inner() -> None:
            owner.forget()

        child(inner)

    pid = child(work)
    grandchild = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
    try:
        kill(pid)
        (found,) = orphaned_overflows(folder, ())
        assert seqs(found.frames) == [0]
        found.remove()
    finally:
        os.kill(grandchild, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{grandchild}") or _is_zombie(grandchild))


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def test_a_child_that_inherited_the_lock_does_not_keep_the_file_of_its_dead_parent(folder: str) -> None:
    def work() -> None:
        owner = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6)
        owner.append(frames(0), 20)
        child(lambda: None)

    pid = child(work)
    grandchild = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
    try:
        kill(pid)
        (found,) = orphaned_overflows(folder, ())
        found.remove()
    finally:
        os.kill(grandchild, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{grandchild}") or _is_zombie(grandchild))


def test_an_incomplete_frame_at_the_end_is_not_adopted(overflow: Overflow, folder: str) -> None:
    overflow.append(frames(0), 20)
    path = overflow.path
    overflow.close()
    with open(path, "ab") as file:
        file.write(frames(1)[0][:500])

    (found,) = taken_open(folder)
    assert seqs(found.frames) == [0]
    found.remove()


def taken_open(folder: str) -> list[OrphanedOverflow]:
    return list(orphaned_overflows(folder, ()))


def test_closing_removes_the_file_only_when_it_is_empty(folder: str) -> None:
    full = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6)
    full.append(frames(0), 20)
    full.close()
    full.close()
    empty = Overflow(folder, token=b"otheroth", pid=os.getpid(), limit=10**6)
    empty.append(frames(1), 20)
    empty.drain(Pipe())
    empty.close()

    (found,) = taken_open(folder)
    assert seqs(found.frames) == [0]
    found.remove()


def test_other_files_in_the_folder_are_not_adopted(overflow: Overflow, folder: str) -> None:
    prepare_folder(folder)
    Path(folder, "empty").touch()
    Path(folder, "text").write_text("what is this?" * 1000)
    Path(folder, "link").symlink_to("/etc/passwd")
    Path(folder, "folder").mkdir()

    assert taken(folder) == []
    living_drops(folder)
    assert living_drops(folder + "-that-is-not-there") == {}


@pytest.fixture
def small_memory(spool: Path) -> Iterator[Path]:
    place = spool / "memory"
    place.mkdir(0o700)
    with tmpfs(place, "64k"):
        yield place


def test_without_memory_the_overflow_is_full(small_memory: Path) -> None:
    overflow = Overflow(str(small_memory / "o"), token=TOKEN, pid=os.getpid(), limit=10**6)
    stored = 0
    while overflow.append(frames(stored, 3000), 40):
        stored += 1
    overflow.count("queue_full", 40)

    assert stored > 10
    assert drained(overflow, Pipe()) == list(range(stored))
    assert overflow.append(frames(0), 20)
    assert drained(overflow, Pipe()) == [0]
    assert overflow.drops == {"queue_full": {"ERROR": 1}}
    overflow.close()


def test_a_removed_file_is_made_again_with_what_waits_and_no_more(overflow: Overflow, folder: str) -> None:
    pipe = Pipe()
    for seq in range(400):
        overflow.append(frames(seq, 4000), 20)
        pipe.room = 0 if seq < 3 else 1
        overflow.drain(pipe)
    overflow.count("queue_full", 20)
    name = os.path.basename(overflow.path)
    os.unlink(overflow.path)
    overflow.touch()

    assert os.listdir(folder) == [name]  # drops are counted once for each name of a file
    assert living_drops(folder) == {name: {"queue_full": {"INFO": 1}}}
    assert os.stat(overflow.path).st_blocks * 512 < overflow.waiting + 3 * HEAD_BYTES
    assert drained(overflow, Pipe()) == [397, 398, 399]


def test_a_removed_file_that_there_is_no_memory_to_make_again_goes_on_to_be_used(small_memory: Path) -> None:
    overflow = Overflow(str(small_memory / "o"), token=TOKEN, pid=os.getpid(), limit=10**6)
    for seq in range(12):
        assert overflow.append(frames(seq, 3000), 40)
    os.unlink(overflow.path)
    overflow.touch()

    assert os.listdir(small_memory / "o") == []
    assert drained(overflow, Pipe()) == list(range(12))
    assert overflow.append(frames(12), 40)
    overflow.touch()
    (made,) = os.listdir(small_memory / "o")
    assert overflow.path.endswith(made)
    assert drained(overflow, Pipe()) == [12]
    overflow.close()


def test_a_removed_file_is_made_again_in_the_second_folder_where_memory_has_no_space(small_memory: Path) -> None:
    second = small_memory.parent / "second"
    overflow = Overflow(str(small_memory / "o"), token=TOKEN, pid=os.getpid(), limit=40_000, second=str(second))
    for seq in range(12):
        assert overflow.append(frames(seq, 3000), 40)
    os.unlink(overflow.path)
    overflow.touch()
    overflow.close()

    (found,) = taken_open(str(second))
    assert seqs(found.frames) == list(range(12))
    found.remove()


class Half:
    """`os.pwrite` that fails inside the waiting events; `seen` has open descriptors of the half-written files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        self._write, self._error = os.pwrite, error
        self.seen: list[int] = []
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, fd: int, data: bytes, offset: int) -> int:
        if offset < HEAD_BYTES or len(data) <= HEAD_BYTES:
            return self._write(fd, data, offset)
        self._write(fd, data[:HEAD_BYTES], offset)
        self.seen.append(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
        raise self._error


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "full")], ids=["MemoryError", "OSError"])
@pytest.mark.parametrize("removes", [True, False], ids=["removed", "not removed"])
def test_what_was_made_again_in_part_is_nobodys(
    overflow: Overflow, folder: str, monkeypatch: pytest.MonkeyPatch, error: Exception, removes: bool
) -> None:
    for seq in range(8):
        overflow.append(frames(seq, 3000), 20)
    os.unlink(overflow.path)
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch, contextlib.suppress(MemoryError):
        half = Half(patch, error)
        if not removes:
            patch.setattr(os, "unlink", refuse)
        overflow.touch()

    (fd,) = half.seen
    os.lseek(fd, 0, os.SEEK_SET)
    assert os.read(fd, 10) == b""  # empty also for a process that has opened it already
    os.close(fd)
    assert taken(folder) == []
    assert os.listdir("/proc/self/fd") == before
    overflow.touch()
    assert drained(overflow, Pipe()) == list(range(8))


def refuse(_path: str) -> None:
    raise OSError(errno.EROFS, "read-only")


def test_what_is_logged_while_a_removed_file_is_made_again_comes_behind_what_waits(
    overflow: Overflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destructor or a signal handler may log at that moment."""
    overflow.append(frames(0), 20)
    os.unlink(overflow.path)
    create = shared_file.create

    def create_and_log(*args: Any, **options: Any) -> Any:
        assert overflow.append(frames(1), 20)
        return create(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shared_file, "create", create_and_log)
        overflow.touch()

    assert drained(overflow, Pipe()) == [0, 1]


def test_closing_makes_a_removed_file_again_for_what_waits_in_it(folder: str) -> None:
    overflow = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6)
    overflow.append(frames(0), 20)
    os.unlink(overflow.path)
    overflow.close()

    (found,) = taken_open(folder)
    assert seqs(found.frames) == [0]
    found.remove()


def test_without_memory_for_a_file_no_descriptor_leaks(small_memory: Path) -> None:
    prepare_folder(str(small_memory / "o"))
    with open(small_memory / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"." * 4096) == 4096:
            pass
    overflow = Overflow(str(small_memory / "o"), token=TOKEN, pid=os.getpid(), limit=10**6)
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(20):
        assert not overflow.append(frames(0), 40)
        overflow.count("queue_full", 40)

    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(small_memory / "o") == []
    assert overflow.drops == {"queue_full": {"ERROR": 20}}


def test_without_memory_for_a_file_it_is_in_the_second_folder(small_memory: Path, folder: str) -> None:
    with open(small_memory / "ballast", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"." * 4096) == 4096:
            pass
    overflow = Overflow(str(small_memory / "o"), token=TOKEN, pid=os.getpid(), limit=10**6, second=folder)

    assert overflow.append(frames(0), 20)
    overflow.count("queue_full", 40)

    assert drained(overflow, Pipe()) == [0]
    assert list(living_drops(folder).values()) == [{"queue_full": {"ERROR": 1}}]
    overflow.close()


def test_with_less_memory_than_may_wait_it_is_in_the_second_folder(small_memory: Path, folder: str) -> None:
    overflow = Overflow(str(small_memory / "o"), token=TOKEN, pid=os.getpid(), limit=10**6, second=folder)

    stored = [number for number in range(40) if overflow.append(frames(number, 3000), 40)]

    assert len(stored) == 40
    assert drained(overflow, Pipe()) == stored
    assert os.listdir(small_memory / "o") == []
    overflow.close()


def test_with_little_memory_and_no_second_folder_the_memory_is_used(small_memory: Path) -> None:
    folder = str(small_memory / "o")
    overflow = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6, second="/proc/no/folder")

    assert overflow.append(frames(0), 20)

    assert drained(overflow, Pipe()) == [0]
    overflow.close()


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_folder_that_others_can_enter_is_refused(folder: str, mode: int) -> None:
    os.mkdir(folder)
    os.chmod(folder, mode)

    with pytest.raises(PermissionError):
        prepare_folder(folder)


@pytest.mark.parametrize(
    ("level", "name"),
    [(-1, "NOTSET"), (0, "NOTSET"), (5, "NOTSET"), (10, "DEBUG"), (25, "INFO"), (50, "CRITICAL"), (10**9, "CRITICAL")],
)
def test_a_level_has_the_name_of_the_standard_level_at_or_below(level: int, name: str) -> None:
    assert level_name(level) == name
    assert name in LEVELS


def test_the_table_of_drops_fits_into_the_head() -> None:
    assert DROPS_AT + TABLE.size <= HEAD_BYTES
