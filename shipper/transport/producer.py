"""One process's end of the queue: writes frames into a FIFO, without waiting and without a lock between processes.

Invariants
* A put never waits for another process, a disk or a network.
* When a put has returned, the event outlives its process: it is in the pipe, or in the overflow, or counted as dropped.
* One frame is one `write(2)` of at most PIPE_BUF bytes: whole or not at all, also with several threads, processes and
  signal handlers. No lock exists that a killed process could leave locked.
* Nothing is written to a descriptor that is not known to be the FIFO (see `descriptors.py`).
* Every process gives ids of its own, however it got its producer: fork with or without Python's hooks, spawn, the path.

In the pipe are frames (see `frame.py`); those of different processes interleave. Any number of processes write; one
shipper process reads. What the pipe has no space for waits in the process's overflow.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from .._support.unpatched import new_rlock
from ..config.limits import OVERFLOW_SIZE
from ..event.model import EventId
from ..spool.root import root_identity
from . import frame
from .channel import Channel
from .drops import Drops
from .pipe import Pipe

_NAP_SECONDS = 0.005  # between two looks into the pipe


class Producer:
    """Puts events, which are bytes, into the queue for one process: each as a whole or not at all.

    ``path`` is the FIFO, ``overflow`` the folder for what does not fit into it, ``overflow_size`` the limit for that in
    bytes per process. A put never waits; when the overflow is full too, it counts a drop and raises `queue.Full`.
    ``is_watched``: the shipper process reports a process that ends without `note_clean_end` or `close`.
    """

    def __init__(
        self, path: str, *, overflow: str, overflow_size: int = OVERFLOW_SIZE, is_watched: bool = False
    ) -> None:
        self._is_watched = is_watched
        self._folder = overflow
        self._overflow_size = overflow_size
        self._pipe = Pipe(path)
        self._root = root_identity()
        self.closed = False
        self._successor: Producer | None = None
        self.on_new_process: Callable[[], None] | None = None
        """Called once in a forked child, before its first put: it has to restart what ran in its parent's threads."""
        self._is_new_process = False
        self._fork_locks: dict[int, Any] = {}
        self._channel = self._new_channel()
        _open_producers.add(self)

    def _new_channel(self) -> Channel:
        second = os.path.join(os.path.dirname(self.path), "overflow")
        return Channel(
            self._pipe,
            folder=self._folder,
            second=second,
            limit=self._overflow_size,
            is_watched=self._is_watched,
        )

    def open(self) -> None:
        """Open the pipe now rather than at the first put. OSError when it can't be opened."""
        self._channel.open()

    @property
    def path(self) -> str:
        """The path of the FIFO."""
        return self._pipe.path

    # -- the state of this process -----------------------------------------------------------------------------------

    def _begin_in_child(self) -> None:
        self._channel.forget()
        self._is_new_process = True
        # One assignment: a thread that sees its own pid must not see other state of the parent, or ids come twice.
        self._channel = self._new_channel()

    def ensure_current_process(self) -> None:
        """In a forked child, begin with a new token and an empty overflow."""
        # Not only by os.register_at_fork: uWSGI forks without running its hooks.
        if self._channel.pid == os.getpid() and not self._is_new_process:
            return
        # One lock per process: the parent's may have been held at the fork.
        with self._fork_locks.setdefault(os.getpid(), new_rlock()):
            if self._channel.pid != os.getpid():
                self._begin_in_child()
            is_new, self._is_new_process = self._is_new_process, False
        if is_new and self.on_new_process is not None:
            self.on_new_process()

    def _current(self) -> Channel:
        self.ensure_current_process()
        return self._channel

    @property
    def token(self) -> bytes:
        """What names this process in event ids; a forked child has its own."""
        return self._current().token

    @property
    def emitted(self) -> int:
        """How many events this process has put, or dropped, so far."""
        return self._current().emitted

    @property
    def drops(self) -> Drops:
        """What this process has dropped so far."""
        return self._current().overflow.drops

    @property
    def waiting(self) -> int:
        """Bytes in this process's overflow."""
        return self._current().overflow.waiting

    # -- writing -----------------------------------------------------------------------------------------------------

    def put_nowait(self, obj: bytes, *, level: int = 0) -> EventId:
        """Queue one event without waiting; return its id. Raises `queue.Full` when it is dropped, which is counted."""
        if self.closed and self._successor is not None:
            return self._successor.put_nowait(obj, level=level)
        seq = self.put_sequence(obj, level)
        return EventId(self._channel.token, seq)

    def put_sequence(self, obj: bytes, level: int) -> int:
        """Like `put_nowait`, but return only the id's sequence number. Hot path."""
        channel = self._channel
        if channel.pid != os.getpid() or self._is_new_process:
            channel = self._current()
        if self.closed:  # checked again below: once it is closed, nothing can be written
            return self._put_after_close(obj, level)
        seq = next(channel.sequence)
        # The same as `encode` and `offer` for an event of one frame, with fewer calls.
        if len(obj) <= frame.MAX_PAYLOAD and 0 <= level <= frame.MAX_LEVEL and not channel.overflow.busy:
            piece = frame.single(obj, frame.EVENT, level, 0, 1, channel.token, seq, channel.pid)
            if self._pipe.write(piece):
                channel.note(piece)
                return seq
        frames = frame.encode(obj, token=channel.token, seq=seq, pid=channel.pid, level=level)
        return seq if channel.offer(frames, level) else self._put_refused(obj, level)

    def _put_refused(self, obj: bytes, level: int) -> int:
        """The pipe and the overflow took nothing: they are full, or another thread has closed them meanwhile."""
        if self.closed:
            return self._put_after_close(obj, level)
        self._drop("queue_full", level)

    def _put_after_close(self, obj: bytes, level: int) -> int:
        if self._successor is not None:
            return self._successor.put_sequence(obj, level)
        next(self._channel.sequence)
        self._drop("after_stop", level)

    def _drop(self, reason: str, level: int) -> NoReturn:
        self._channel.overflow.count(reason, level)
        raise queue.Full(reason)

    def maintain(self) -> None:
        """Open the pipe again if other code closed it, follow a FIFO that was made again, and maintain the files.

        Called about once a second, by one thread.
        """
        # After chroot the path leads to another folder, and the open pipe is still the right one.
        if self.closed or root_identity() != self._root:
            return
        with contextlib.suppress(OSError):
            self._pipe.open()
            self._pipe.follow()
        self._current().maintain()

    def drop(self, reason: str, level: int) -> None:
        """Count an event that is not sent; it uses up a sequence number."""
        channel = self._current()
        next(channel.sequence)
        channel.overflow.count(reason, level)

    def wait_until_read(self, deadline: float) -> bool:
        """Wait until `deadline` (time.monotonic()) for the shipper process to read all; return whether it did."""
        if not self.drain(deadline):
            return False
        with contextlib.suppress(OSError):
            while self._pipe.waiting():
                if time.monotonic() >= deadline:
                    return False
                time.sleep(_NAP_SECONDS)
            return True
        return False

    def mark(self) -> int:
        """Put a mark after everything this process has put; return its number. Raises `queue.Full` without space."""
        number = self._current().mark()
        if number is None:
            raise queue.Full("no space for a mark")
        return number

    def drain(self, deadline: float) -> bool:
        """Empty the overflow into the pipe until `deadline` (time.monotonic()); True when nothing waits any more."""
        return self._current().drain(deadline)

    # -- the end -----------------------------------------------------------------------------------------------------

    def note_clean_end(self) -> None:
        """Note that this process ends normally. It may still put events afterwards."""
        if self._channel.pid == os.getpid():
            self._channel.note_clean_end()

    def close(self, successor: Producer | None = None) -> None:
        """Close the pipe. Later puts, and those under way in other threads, go to the ``successor``; without one they
        are dropped and counted as ``after_stop``. Idempotent."""
        if self.closed:
            return
        if self._channel.pid != os.getpid():  # a forked child that never put anything: the files are the parent's
            self._begin_in_child()
        self._successor = successor
        self.closed = True
        self._channel.close()
        self._pipe.close()
        _open_producers.discard(self)


_open_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for each in list(_open_producers):
        each._begin_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
