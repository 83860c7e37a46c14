"""The writers' end of the FIFO, which may be closed by other code, or removed and made again."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import struct
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

from .._support import unpatched
from ..spool.numbers import close_high, open_high
from ..spool.owner import owner_uid
from .descriptors import OwnDescriptor

PIPE_BYTES = 1024 * 1024
POLL_MS = 50
_NAP_MS = 5
_UNREAD_SECONDS = 5.0  # how long the content of a removed FIFO is left to the shipper process
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_F_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", 1032)


def grow_pipe(fd: int) -> None:
    """Ask for a 1 MiB pipe. A refusal (the user's share of pipe memory is used up) only means a smaller pipe."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)


def pipe_size(fd: int) -> int:
    """How many bytes a pipe holds; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return fcntl.fcntl(fd, _F_GETPIPE_SZ)
    return 0


def _request_of_bytes_to_read() -> int:
    """Return the number of the ioctl request FIONREAD."""
    if sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64"):
        return 0x541B  # importing termios, with its 400 other constants, would take memory in every worker
    import termios

    return termios.FIONREAD


_FIONREAD = _request_of_bytes_to_read()


def bytes_in_pipe(fd: int) -> int:
    """How many bytes wait in a pipe to be read."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _FIONREAD, b"\0" * 4))[0])


class Pipe:
    """A descriptor of the FIFO at ``path``, opened at its first use. Threads and forked children share it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.closed = False
        self.was_closed = False
        """Whether other code has closed the descriptor, or removed the FIFO: what was in it may be lost."""
        self.on_closed: Callable[[], None] = _nothing
        """Called by any thread that notices a closed descriptor or a removed FIFO; it must not block."""
        self._own: OwnDescriptor | None = None
        self._locks: dict[int, Any] = {}  # by pid: the parent's lock may have been held at the fork
        self._earlier: list[tuple[OwnDescriptor, float]] = []  # removed FIFOs, and when each was replaced

    def open(self) -> int:
        """Return the number of the open FIFO. OSError when it can't be opened, or after `close`."""
        own = self._own
        if own is not None and own.is_own() and not self.closed:
            return own.number
        return self._reopen().number

    def write(self, frame: bytes) -> bool:
        """Write one whole frame; False when the pipe is full or can't be opened now."""
        own = self._own
        try:
            if own is None or not own.is_own():
                own = self._reopen()
            unpatched.write(own.number, frame)
        except OSError:
            return False
        return True

    def waiting(self) -> int:
        """Return how many bytes, of all writers, wait to be read. OSError when the pipe can't be opened."""
        return bytes_in_pipe(self.open())

    def _reopen(self) -> OwnDescriptor:
        if self.closed:
            raise OSError(errno.EBADF, "the queue is closed", self.path)
        before = self._own
        if before is not None and before.is_own():  # another thread has opened it since the caller looked
            return before
        own = OwnDescriptor(_open_fifo(self.path))
        if not self._replace(before, own):  # another thread has replaced it, or closed the pipe
            own.close()
            return self._own or self._reopen()
        if before is not None:
            self.was_closed = True
            self.on_closed()
        weakref.finalize(self, own.close).atexit = False
        return own

    def _replace(self, before: OwnDescriptor | None, own: OwnDescriptor) -> bool:
        """Use ``own`` in place of ``before``; False when ``before`` is not in use any more, or once closed."""
        with self._locks.setdefault(os.getpid(), unpatched.new_rlock()):
            if self._own is not before or self.closed:
                return False
            self._own = own
            return True

    def follow(self) -> None:
        """Open the FIFO that is at the path now, if it is another one. OSError when that fails.

        The earlier FIFO stays open until it has been read. When a cleaner has removed a FIFO, the shipper process, or
        the process that starts one, makes a new one. Until then the removed one stays in use.
        """
        before = self._own
        if before is None or self.closed:
            return
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return
        if (found.st_dev, found.st_ino) == before.identity and before.is_own():
            return
        self.was_closed = True  # from now on `waiting` does not count what is in the earlier FIFO
        self.on_closed()
        self._own = None
        try:
            self._reopen()
        except OSError:
            self._replace(None, before)
            raise
        self._earlier.append((before, time.monotonic()))

    def take_earlier(self) -> bytes:
        """Read what is left in an earlier FIFO 5 seconds after it was replaced; b"" when nothing is."""
        for each in list(self._earlier):
            own, since = each
            with contextlib.suppress(OSError):
                if own.is_own() and bytes_in_pipe(own.number):
                    if time.monotonic() - since < _UNREAD_SECONDS:
                        continue
                    # Only one process reads it. After the last descriptor is closed, the kernel drops it.
                    fcntl.flock(own.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return os.read(own.number, PIPE_BYTES)
            self._earlier.remove(each)
            own.close()
        return b""

    def wait_writable(self, milliseconds: int) -> None:
        """Block this thread until the pipe has space or time is up, even if an event loop has patched `select`."""
        try:
            poller = unpatched.original("select", "poll")()
            poller.register(self.open(), select.POLLOUT)
        except OSError:
            unpatched.original("time", "sleep")(milliseconds / 1000)
            return
        poller.poll(milliseconds)

    def wait_cooperatively(self, milliseconds: int) -> None:
        """Like `wait_writable`, but under gevent or eventlet sleep at most 5 ms, so that other greenlets run."""
        if unpatched.is_patched():
            time.sleep(min(milliseconds, _NAP_MS) / 1000)
            return
        self.wait_writable(milliseconds)

    def close(self) -> None:
        """Release the FIFO. Idempotent."""
        with self._locks.setdefault(os.getpid(), unpatched.new_rlock()):
            if self.closed:
                return
            self.closed = True
        self.on_closed = _nothing  # a cycle with the mirror would keep the number in use until a garbage collection
        if self._own is not None:
            self._own.disable()
        for own, _ in self._earlier:
            own.close()


def _nothing() -> None:
    pass


def _open_fifo(path: str) -> int:
    # For reading too: then opening needs no reader, and writing raises no SIGPIPE when the reader has died.
    fd = open_high(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    found = os.fstat(fd)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != owner_uid() or found.st_mode & 0o077:
        close_high(fd)
        raise OSError(errno.EBADF, "not a FIFO of this user", path)
    grow_pipe(fd)
    return fd
