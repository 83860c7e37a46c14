"""Memory files of processes that are gone: whose they are, who may take them, and who cleans up."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.spool import layout
from shipper.spool.host import take
from shipper.spool.kernel import namespace
from shipper.spool.layout import Spool, memory_folder
from shipper.spool.lock import claim
from shipper.transport import frame, pipe
from shipper.transport.memory import orphans, shared_file
from shipper.transport.memory.orphans import (
    foreign_orphans,
    is_writer_gone,
    orphaned_mirrors,
    orphaned_overflows,
    remove_foreign,
)
from shipper.transport.memory.overflow import Overflow
from shipper.transport.memory.pipe_mirror import PipeMirror
from shipper.transport.pipe import Pipe
from shipper.transport.queue import RecordQueue

from ..support.forks import forked, in_a_child
from ..support.needs import need
from ..support.waiting import PATIENCE

TOKEN = b"tokentok"


def frames(seq: int = 0) -> list[bytes]:
    return frame.encode(b"." * 100, token=TOKEN, seq=seq, pid=os.getpid())


def leave(folder: str, spool: str = "") -> None:
    """Leave an overflow and a mirror, with one frame each, of a process that has ended."""

    def work() -> None:
        overflow = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6, spool=spool)
        overflow.append(frames(1), 20)
        PipeMirror(folder, lambda: 1, token=TOKEN, pid=os.getpid(), spool=spool).note(frames(2)[0])

    assert in_a_child(work) == 0


def found(folder: str) -> tuple[int, int]:
    overflows = list(orphaned_overflows(folder, ()))
    for each in overflows:
        each.close()
    return len(overflows), len(list(orphaned_mirrors(folder)))


# -- liveness --------------------------------------------------------------------------------------------------------


def change_pids(path: str, value: int) -> None:
    """Change the file as if its process had been in another PID namespace."""
    with open(path, "r+b") as file:
        file.seek(shared_file.PIDS_AT)
        file.write(shared_file.PIDS.pack(value))


@pytest.mark.parametrize("pids", [0, 1])
def test_a_living_file_of_another_container_is_not_taken(spool: Path, pids: int) -> None:
    """No process here has its owner's pid, but the owner holds the lock."""
    folder = str(spool / "o")
    overflow = Overflow(folder, token=TOKEN, pid=2**22 + 1, limit=10**6)
    overflow.append(frames(), 20)
    mirror = PipeMirror(folder, lambda: 1, token=TOKEN, pid=2**22 + 1)
    for path in shared_file.list_files(folder):
        change_pids(path, pids)

    assert found(folder) == (0, 0)
    assert not is_writer_gone([folder], 2**22 + 1)
    overflow.close()
    mirror.close()
    for path in shared_file.list_files(folder):
        os.unlink(path)
    assert is_writer_gone([folder], 2**22 + 1)


def test_a_writer_that_lives_here_is_not_gone(spool: Path) -> None:
    assert not is_writer_gone([str(spool)], os.getpid())
    assert is_writer_gone([str(spool / "missing")], 2**22 + 1)


def test_the_lock_of_a_dead_process_that_a_child_has_inherited_does_not_keep_its_file(spool: Path) -> None:
    folder = str(spool / "o")
    reading, writing = os.pipe()

    def parent() -> None:
        overflow = Overflow(folder, token=TOKEN, pid=os.getpid(), limit=10**6)
        overflow.append(frames(), 20)
        os.write(writing, b"%d" % forked(signal.pause, ctypes.PyDLL(None).fork))
        os._exit(0)

    in_a_child(parent)
    idle = int(os.read(reading, 20))
    try:
        assert found(folder)[0] == 1
        change_pids(shared_file.list_files(folder)[0], 1)
        assert found(folder)[0] == 0
    finally:
        os.kill(idle, signal.SIGKILL)
        os.close(reading)
        os.close(writing)


def test_a_living_overflow_of_a_container_is_not_adopted_by_another(spool: Path) -> None:
    """Two PID namespaces share a folder: a pid of one is no process in the other."""
    allowed = shutil.which("unshare") and subprocess.run(["unshare", "-mpf", "true"], check=False).returncode == 0
    need(os.geteuid() == 0 and allowed, "the right to make namespaces")
    source = f"""if True:
        import os, sys
        from shipper.transport import frame
        from shipper.transport.memory.overflow import Overflow
        overflow = Overflow({str(spool / "o")!r}, token=b"tokentok", pid=os.getpid(), limit=10**6)
        overflow.append(frame.encode(b"x", token=b"tokentok", seq=0, pid=os.getpid()), 20)
        print("ready", flush=True)
        sys.stdin.read()
    """
    container = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", source]
    with subprocess.Popen(container, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert found(str(spool / "o")) == (0, 0)
        process.communicate("")

    assert found(str(spool / "o")) == (1, 0)


# -- whose files ------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(spool: Path) -> Iterator[Spool]:
    made = Spool(str(spool / "s"))
    made.prepare()
    claim(made, "app")
    yield made
    shutil.rmtree(made.overflow, ignore_errors=True)


def test_a_new_spool_finds_nothing_of_one_that_was_deleted(place: Spool) -> None:
    before = place.overflow
    shutil.rmtree(place.path)
    place.prepare()
    claim(place, "app")

    assert place.overflow != before
    assert Path(place.overflow).parent == Path(before).parent == Path(memory_folder())


def test_a_spool_of_an_earlier_version_keeps_its_folder(spool: Path) -> None:
    place = Spool(str(spool))
    place.prepare()
    before = place.overflow
    Path(place.app).write_text("app\n")
    Path(place.app).chmod(0o600)
    claim(place, "app")

    assert place.overflow == before
    assert not os.path.lexists(place.id)


def test_an_id_that_a_cleaner_has_removed_is_found_again(place: Spool) -> None:
    before = place.read_id()
    assert take(place)
    os.unlink(place.id)

    assert place.read_id() == before
    claim(place, "app")
    assert Path(place.id).read_text() == f"{before}\n"


@pytest.mark.parametrize("text", ["", "../../tmp/x", "0123", "0123456789ABCDEF"])
def test_a_damaged_id_is_replaced(place: Spool, text: str) -> None:
    Path(place.id).write_text(text)

    assert place.read_id() == ""
    place.write_id()
    assert len(place.read_id()) == 16


# -- cleaning up ------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory(spool: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's memory folder."""
    for module in (orphans, layout):
        monkeypatch.setattr(module, "memory_folder", lambda: str(spool / "memory"))
    (spool / "memory").mkdir(0o700)
    return spool / "memory"


def rewrite_origin(folder: Path, **changes: object) -> None:
    for path in folder.iterdir():
        with open(path, "r+b") as file:
            origin = shared_file.read_origin(file.fileno())
            assert origin is not None
            file.seek(shared_file.ORIGIN_AT)
            file.write(json.dumps({**origin._asdict(), **changes}).encode() + b"\0")


def age(folder: Path, seconds: float) -> None:
    for path in folder.iterdir():
        changed = path.stat().st_mtime - seconds
        os.utime(path, (changed, changed))


def test_files_whose_spool_was_deleted_are_removed(memory: Path, spool: Path) -> None:
    leave(str(memory / "a"), str(spool / "deleted"))
    assert len(list(foreign_orphans())) == 2

    assert len(remove_foreign("")) == 2
    assert list(memory.iterdir()) == []
    assert list(foreign_orphans()) == []


def test_files_of_the_own_spool_and_of_living_processes_are_kept(memory: Path, spool: Path) -> None:
    leave(str(memory / "own"), str(spool / "deleted"))
    overflow = Overflow(str(memory / "b"), token=TOKEN, pid=os.getpid(), limit=10**6, spool=str(spool / "deleted"))
    overflow.append(frames(), 20)

    assert remove_foreign(str(memory / "own")) == []
    overflow.close()


@pytest.mark.parametrize("has_id", [True, False])
def test_files_of_a_spool_that_waits_for_its_next_start_are_kept(memory: Path, place: Spool, has_id: bool) -> None:
    """Also when a cleaner has removed the file with the spool's id."""
    folder = place.overflow
    assert Path(folder).parent == memory
    leave(folder, place.path)
    if not has_id:
        os.unlink(place.id)

    assert remove_foreign("") == []
    assert found(folder) == (1, 1)


@pytest.mark.parametrize(
    ("seconds", "removed"),
    [(0, 0), (orphans.FOREIGN_MIRROR_SECONDS + 60, 1), (orphans.FOREIGN_OVERFLOW_SECONDS + 60, 2)],
)
def test_files_of_another_container_are_removed_when_they_are_old(
    memory: Path, spool: Path, seconds: float, removed: int
) -> None:
    """It can't be seen from here whether their spool still exists."""
    leave(str(memory / "a"), str(spool / "deleted"))
    rewrite_origin(memory / "a", mounts=namespace("mnt") + 1)
    age(memory / "a", seconds)

    assert len(remove_foreign("")) == removed


@pytest.mark.parametrize(("seconds", "removed"), [(24 * 3600.0, 0), (orphans.UNKNOWN_SECONDS + 60, 2)])
def test_files_of_an_earlier_version_are_removed_when_they_are_very_old(
    memory: Path, seconds: float, removed: int
) -> None:
    leave(str(memory / "a"))
    age(memory / "a", seconds)

    assert len(remove_foreign("")) == removed


def test_a_living_process_touches_its_files_and_makes_removed_ones_again(spool: Path) -> None:
    os.mkfifo(spool / "queue", 0o600)
    queue = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    queue.put_nowait(b"1")
    queue.drop("failed", 40)
    paths = shared_file.list_files(str(spool / "memory"))
    for path in paths:
        os.utime(path, (1, 1))

    queue.maintain()

    assert len(paths) == 2
    assert all(os.stat(path).st_mtime > 1 for path in paths)
    for path in paths:
        os.unlink(path)
    queue.maintain()
    queue.put_nowait(b"2")
    assert len(os.listdir(spool / "memory")) == 2
    assert queue.drops == {"failed": {"ERROR": 1}}
    queue.close()


def replace(queue: str | Path) -> None:
    """Replace a queue by a new one at the same path."""
    os.unlink(queue)
    os.mkfifo(queue, 0o600)


def test_a_queue_that_was_made_anew_is_opened_again(queue: RecordQueue, spool: Path) -> None:
    queue.put_nowait(b"before")
    os.unlink(spool / "queue")
    queue.maintain()
    queue.put_nowait(b"meanwhile")  # the shipper process reads the removed queue until it has made a new one
    os.mkfifo(spool / "queue", 0o600)

    queue.maintain()
    queue.put_nowait(b"after")

    reader = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    assert reader.get(timeout=5) == b"after"
    reader.close()


def test_what_no_process_reads_in_a_removed_queue_is_put_again(
    queue: RecordQueue, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be lost when the last descriptor of the removed queue is closed."""
    monkeypatch.setattr(pipe, "_UNREAD_SECONDS", 0.0)
    queue.put_nowait(b"before" * 1000)
    replace(spool / "queue")

    queue.maintain()
    queue.maintain()

    reader = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    assert reader.get(timeout=5) == b"before" * 1000
    reader.close()


def test_an_event_that_began_in_a_removed_queue_that_no_process_reads_is_put_again_whole(
    queue: RecordQueue, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rest is in the next queue already, where a reader that has not seen the beginning ignores it."""
    monkeypatch.setattr(pipe, "_UNREAD_SECONDS", 0.0)
    written = []

    def follow_in_between(self: Pipe, piece: bytes) -> bool:
        written.append(piece)
        taken = write(self, piece)
        if len(written) == 1:
            replace(self.path)
            self.follow()
        return taken

    write = Pipe.write
    monkeypatch.setattr(Pipe, "write", follow_in_between)
    queue.put_nowait(b"torn" * 2500)
    first = list(written)
    queue.maintain()

    reading = os.open(spool / "queue", os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reading, 10**6) == b"".join([*first[1:], *first])
    os.close(reading)


def test_what_is_put_again_out_of_a_removed_queue_has_space_in_a_full_overflow(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put again was accepted before the overflow became full."""
    monkeypatch.setattr(pipe, "_UNREAD_SECONDS", 0.0)
    os.mkfifo(spool / "queue", 0o600)
    queue = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"), overflow_size=1000)
    queue.put_nowait(b"accepted")
    with monkeypatch.context() as full:
        full.setattr(Pipe, "write", lambda self, piece: False)
        queue.put_nowait(b"." * 950, level=40)
        replace(spool / "queue")
        queue.maintain()

    reader = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    assert [reader.get(timeout=PATIENCE) for _ in range(2)] == [b"." * 950, b"accepted"]
    reader.close()
    queue.close()


def test_after_chroot_the_open_queue_is_used_on(spool: Path) -> None:
    """In the new root, there is nothing at the queue's path, or something other than a queue."""
    need(os.geteuid() == 0, "the right to change the root")
    os.mkfifo(spool / "queue", 0o600)
    (spool / "root").mkdir()
    queue = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    queue.put_nowait(b"before")

    def work() -> None:
        os.chroot(spool / "root")
        queue.maintain()
        queue.put_nowait(b"after")

    assert in_a_child(work) == 0
    assert [queue.get(timeout=5), queue.get(timeout=5)] == [b"before", b"after"]
    assert list((spool / "root").iterdir()) == []
    queue.close()
