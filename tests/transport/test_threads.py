"""What the threads of a process share: nothing is lost and nothing is taken twice, with a GIL and without."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
from pathlib import Path

from shipper.transport import frame
from shipper.transport.memory.orphans import orphaned_mirrors, orphaned_overflows
from shipper.transport.pipe import Pipe
from shipper.transport.queue import RecordQueue

from ..support.forks import forked, in_a_child
from ..support.threads import THREADS, in_threads
from ..support.waiting import wait_until

EVENTS = 1500  # of each thread
COUNT = struct.Struct("<Q")


def events(frames: bytes) -> set[bytes]:
    return {frames[view.payload_start : view.end] for view in frame.scan(frames, complete=True).frames}


def left_in_memory(spool: Path) -> set[bytes]:
    """The events in the files of processes that are gone."""
    left = set()
    for mirror in orphaned_mirrors(str(spool / "memory")):
        left |= events(mirror.lost(lambda seq, part: False))
    for overflow in orphaned_overflows(str(spool / "memory"), ()):
        left |= events(overflow.frames)
        overflow.close()
    return left


def test_what_threads_have_put_outlives_a_kill_of_all_processes(queue: RecordQueue, spool: Path) -> None:
    """The pipe's content ends with the last process that has it open: what was not read is in files in memory."""
    returned = mmap.mmap(-1, COUNT.size * THREADS)  # how many of its puts have returned, for each thread

    def work() -> None:
        def put(which: int) -> None:
            for number in range(EVENTS):
                queue.put_nowait(b"%d %04d" % (which, number) + b"." * 100)
                COUNT.pack_into(returned, COUNT.size * which, number + 1)

        in_threads(put)
        signal.pause()

    def counts() -> list[int]:
        return [count for (count,) in COUNT.iter_unpack(returned)]

    pid = forked(work)
    pipe = os.open(spool / "queue", os.O_RDONLY | os.O_NONBLOCK)
    journaled = b""

    def is_time() -> bool:
        nonlocal journaled
        if len(journaled) < 500_000:
            with contextlib.suppress(BlockingIOError):
                journaled += os.read(pipe, 50_000)
        return sum(counts()) > 0.9 * THREADS * EVENTS

    wait_until(is_time)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pipe)

    kept = events(journaled) | left_in_memory(spool)
    accepted = {
        b"%d %04d" % (which, number) + b"." * 100 for which, count in enumerate(counts()) for number in range(count)
    }
    assert len(accepted) > 0.9 * THREADS * EVENTS
    assert sorted(accepted - kept) == []


def test_what_threads_put_first_in_a_child_is_in_its_mirror(queue: RecordQueue, spool: Path) -> None:
    """The mirror is made at the first put: threads that put meanwhile wait for it. `on_new_process` is called once."""
    queue.open()
    begun: list[int] = []
    queue.on_new_process = lambda: begun.append(os.getpid())

    def work() -> None:
        in_threads(lambda which: queue.put_nowait(b"%d" % which))
        assert begun == [os.getpid()]
        os.kill(os.getpid(), signal.SIGKILL)

    for _ in range(10):
        assert in_a_child(work) == -signal.SIGKILL
        (mirror,) = orphaned_mirrors(str(spool / "memory"))
        assert events(mirror.lost(lambda seq, part: False)) == {b"%d" % which for which in range(THREADS)}
        mirror.remove()


def test_threads_that_open_a_pipe_at_the_same_moment_share_one_descriptor(spool: Path) -> None:
    path = str(spool / "queue")
    os.mkfifo(path, 0o600)

    def descriptors() -> int:
        links = []
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/self/fd/{number}"))
        return links.count(path)

    for _ in range(20):
        pipe = Pipe(path)
        in_threads(lambda which, pipe=pipe: pipe.open())  # type: ignore[misc]
        assert (descriptors(), pipe.was_closed) == (1, False)
        pipe.close()
        del pipe
