"""One process's end of the queue: frames into a kernel pipe with a name, without waiting and without any lock.

Every process opens the FIFO by its path, so it works under fork, spawn, forkserver and for processes that nobody of
ours started. One frame is one `write(2)` of at most PIPE_BUF bytes: all or nothing, between threads, processes and
signal handlers. What the pipe has no room for waits in the process's overflow.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import queue
import select
import stat
import time
import weakref
from collections.abc import Callable
from typing import Any

from .._support import unpatched
from .._support.unpatched import new_rlock, start_thread
from ..config.limits import OVERFLOW_SIZE
from ..event.model import EventId
from . import frame
from .overflow import Drops, Overflow
from .pipe_mirror import Trail

PIPE_SIZE = 1024 * 1024
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_POLL_MS = 50
_NAP_MS = 5


def new_token() -> bytes:
    """8 random bytes that name a process, with a version 4 nibble so that ids make proper UUIDs."""
    token = bytearray(os.urandom(8))
    token[6] = 0x40 | token[6] & 0x0F
    return bytes(token)


def grow(fd: int) -> None:
    """Ask for a 1 MiB pipe. A refusal (the user's share of pipe memory is used up) is no error, only a smaller pipe."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_SIZE)


def milliseconds(left: float | None) -> int:
    """How long to wait in one go when so many seconds are left (None: any number)."""
    return _POLL_MS if left is None else max(1, int(min(left * 1000 + 1, _POLL_MS)))


class Producer:
    """What one process puts into the queue: bytes, each whole or not at all.

    `path` is the FIFO, `overflow` the folder for what does not fit into the pipe, `overflow_size` its bound in bytes
    per process. A put never waits, and raises `queue.Full` when the overflow is full too; the drop is counted by then.
    """

    def __init__(self, path: str, *, overflow: str, overflow_size: int = OVERFLOW_SIZE) -> None:
        self._path = path
        self._folder = overflow
        self._second = os.path.join(os.path.dirname(path), "overflow")
        self._overflow_size = overflow_size
        self.closed = False
        self._successor: Producer | None = None
        self._fd = -1
        self._trail: Trail | None = None
        self._note: Callable[[bytes], None] = self._begin_trail
        self.on_new_process: Callable[[], None] | None = None
        """Called once in a forked child, before its first put: what its parent's threads did, it must do itself."""
        self._is_new = False
        self._births: dict[int, Any] = {}
        self._begin()
        _open_producers.add(self)

    def open(self) -> None:
        """Open the pipe now rather than at the first put. OSError when it can't be."""
        self._writing()
        self._note(b"")

    @property
    def path(self) -> str:
        """Of the FIFO."""
        return self._path

    # -- as one process sees itself ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Become a process of our own: a token, a sequence from 0, an empty overflow."""
        pid, token = os.getpid(), new_token()
        self._sequence = itertools.count()
        self._marks = itertools.count(1)
        self._overflow = Overflow(
            self._folder,
            token=token,
            pid=pid,
            limit=self._overflow_size,
            second=self._second,
        )
        self._helping = False
        # Last: another thread that finds our pid here must find nothing of the parent's with it, or ids come twice.
        self._token = token
        self._pid = pid

    def _begin_in_child(self) -> None:
        self._overflow.forget()
        if self._trail is not None:
            self._trail.forget()
        self._trail = None
        self._note = self._begin_trail
        self._is_new = True
        self._begin()

    @property
    def token(self) -> bytes:
        """What names this process in event ids; a forked child has its own."""
        self.be_this_process()
        return self._token

    @property
    def emitted(self) -> int:
        """How many events this process has put, or dropped, so far."""
        self.be_this_process()
        # The counter is the one thing that threads and signal handlers can't get wrong; only its text shows its value.
        return int(repr(self._sequence)[6:-1])

    @property
    def drops(self) -> Drops:
        """What this process has dropped so far."""
        self.be_this_process()
        return self._overflow.drops

    @property
    def waiting(self) -> int:
        """Bytes in this process's overflow."""
        self.be_this_process()
        return self._overflow.waiting

    def be_this_process(self) -> None:
        """In a forked child, become a process of its own: a new token, an empty overflow."""
        # Not only by os.register_at_fork: uWSGI forks without running its hooks.
        if self._pid != os.getpid():
            # A lock for each process: the parent's may have been taken when it forked.
            with self._births.setdefault(os.getpid(), new_rlock()):
                if self._pid != os.getpid():
                    self._begin_in_child()
        if self._is_new:
            self._is_new = False
            if self.on_new_process is not None:
                self.on_new_process()

    # -- writing -----------------------------------------------------------------------------------------------------

    def put_nowait(self, obj: bytes, *, level: int = 0) -> EventId:
        """Queue one event; its id. Raises `queue.Full` (the drop is counted) and never waits."""
        if self.closed and self._successor is not None:
            return self._successor.put_nowait(obj, level=level)
        seq = self.put_quickly(obj, level)
        return EventId(self._token, seq)

    def put_quickly(self, obj: bytes, level: int) -> int:
        """`put_nowait` that makes no more of the id than its sequence number."""
        if self._pid != os.getpid() or self._is_new:
            self.be_this_process()
        if self.closed and self._successor is not None:
            return self._successor.put_quickly(obj, level)
        seq = next(self._sequence)
        if self.closed:
            self._drop("after_stop", level)
        # What `encode` and `_offer` come to in the end: nearly every event goes this way, and each call less is felt.
        fits = len(obj) <= frame.MAX_PAYLOAD and 0 <= level <= frame.MAX_LEVEL
        if fits and self._fd >= 0 and not self._overflow.busy:
            piece = frame.single(obj, frame.EVENT, level, 0, 1, self._token, seq, self._pid)
            try:
                unpatched.write(self._fd, piece)
            except OSError:  # full, or closed meanwhile
                pass
            else:
                self._note(piece)
                return seq
        if not self._offer(frame.encode(obj, token=self._token, seq=seq, pid=self._pid, level=level), level):
            if self.closed:  # meanwhile, by another thread
                return self.put_quickly(obj, level)
            self._drop("queue_full", level)
        return seq

    def _next(self) -> int:
        return next(self._sequence)

    def _drop(self, reason: str, level: int) -> None:
        self._overflow.count(reason, level)
        raise queue.Full(reason)

    def drop(self, reason: str, level: int) -> None:
        """Count an event that its process decided not to send, under an id of its own."""
        self.be_this_process()
        self._next()
        self._overflow.count(reason, level)

    def mark(self) -> int:
        """Put a mark behind everything this process has put; its number. Raises `queue.Full`."""
        self.be_this_process()
        number = next(self._marks)
        level = frame.MAX_LEVEL
        frames = frame.encode(b"", token=self._token, seq=number, pid=self._pid, level=level, flags=frame.MARK)
        if not self._offer(frames, level):
            raise queue.Full("no room for a mark")
        return number

    def _offer(self, frames: list[bytes], level: int) -> bool:
        if self._overflow.busy:
            return self._queue_up(frames, level, begun=False)
        for done, piece in enumerate(frames):
            if not self._write(piece):
                return self._queue_up(frames[done:], level, begun=done > 0)
        return True

    def _write(self, piece: bytes) -> bool:
        """One frame into the pipe, or False when it does not take it now."""
        try:
            unpatched.write(self._fd if self._fd >= 0 else self._open_pipe(), piece)
        except OSError:  # BlockingIOError: full. Anything else (no descriptor left, no folder): try again later.
            return False
        self._note(piece)
        return True

    def _begin_trail(self, piece: bytes) -> None:
        """Note the first frame that is in the pipe. Without memory for a trail we do without."""
        with self._births.setdefault(os.getpid(), new_rlock()):
            if self._note == self._begin_trail:
                self._note = _forget_about  # of a signal handler that logs right now
                if self._folder != self._second:  # on a disk a touch could wait
                    with contextlib.suppress(OSError, ValueError):
                        self._trail = Trail(self._folder, self._fd, token=self._token, pid=self._pid)
                        self._note = self._trail.note
        self._note(piece)

    def _writing(self) -> int:
        return self._fd if self._fd >= 0 else self._open_pipe()

    def _open_pipe(self) -> int:
        if self.closed:
            raise OSError(errno.EBADF, "the queue is closed")
        # For reading too: opening never waits for a reader, and a dead reader raises no SIGPIPE.
        fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        found = os.fstat(fd)
        is_ours = stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid()
        if self._fd >= 0 or self.closed or not is_ours:  # or another thread was here first
            os.close(fd)
            if self._fd < 0:
                raise OSError(errno.EBADF, "closed, or not a FIFO of ours", self._path)
            return self._fd
        grow(fd)
        self._fd = fd
        weakref.finalize(self, os.close, fd).atexit = False
        return fd

    def _queue_up(self, frames: list[bytes], level: int, *, begun: bool) -> bool:
        if not self._overflow.append(frames, level, begun=begun):
            return False
        self._help()
        return True

    def _help(self) -> None:
        """See to it that somebody empties the overflow: a thread that exists only while there is something in it."""
        if self._helping:
            return
        self._helping = True
        try:
            start_thread(self._empty_overflow, "shipper-overflow")
        except RuntimeError:  # no thread to be had, or the interpreter is ending: the next put, flush or exit does it
            self._helping = False
            self._overflow.drain(self._write)

    def _empty_overflow(self) -> None:
        helped = self._overflow
        while True:
            while not helped.drain(self._write):
                if helped is not self._overflow or self.closed:
                    return
                self._wait_writable(_POLL_MS)
            self._helping = False
            if not helped.busy:  # asked again after the flag is down, so that no append is left without a helper
                return
            self._helping = True

    def _wait_writable(self, milliseconds: int) -> None:
        """Wait in a thread of the operating system's own."""
        try:
            poller = unpatched.original("select", "poll")()
            poller.register(self._writing(), select.POLLOUT)
        except OSError:
            unpatched.original("time", "sleep")(milliseconds / 1000)
            return
        poller.poll(milliseconds)

    def _wait_politely(self, milliseconds: int) -> None:
        """Wait in a thread of the application, whose event loop, if it has one, must go on."""
        if unpatched.is_patched():
            time.sleep(min(milliseconds, _NAP_MS) / 1000)
            return
        self._wait_writable(milliseconds)

    def drain(self, deadline: float) -> bool:
        """Empty the overflow into the pipe until `deadline` (time.monotonic()); True when nothing waits any more."""
        self.be_this_process()
        while self._overflow.busy and not self._overflow.drain(self._write):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._wait_politely(milliseconds(left))
        return True

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self, successor: Producer | None = None) -> None:
        """Let go of the pipe. Puts from now on, also those of threads that are just doing it, go to the `successor`;
        without one they are dropped and counted as `after_stop`. May be called twice."""
        if self.closed:
            return
        if self._pid != os.getpid():  # a forked child that never put anything: the files are the parent's
            self._begin_in_child()
        self._successor = successor
        self.closed = True
        self._overflow.close()
        if self._trail is not None:
            self._trail.close()
        _open_producers.discard(self)
        if self._fd >= 0:
            # Its number stays taken for as long as we are: another thread may be about to write to it, and must not
            # write to whatever else the application opens next.
            # Without a descriptor for that it stays open, until the process ends.
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                os.dup2(null, self._fd, inheritable=False)
                os.close(null)

def _forget_about(piece: bytes) -> None:
    """Where there is no trail."""


_open_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for each in list(_open_producers):
        each._begin_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
