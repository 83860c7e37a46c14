"""The FIFO as its writers have it."""

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
_UNREAD_SECONDS = 5.0  # for which a removed FIFO is left to the shipper process
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
    """The number of the request FIONREAD."""
    if sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64"):
        return 0x541B  # known, and termios has four hundred other constants, which take memory in every worker
    import termios

    return termios.FIONREAD


_FIONREAD = _request_of_bytes_to_read()


def bytes_in_pipe(fd: int) -> int:
    """How many bytes wait in a pipe to be read."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _FIONREAD, b"\0" * 4))[0])


class Pipe:
    """One process's descriptor of the FIFO at `path`, opened at its first use. Threads share it; a forked child too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.closed = False
        self.was_closed = False
        """Whether other code has closed the descriptor, or removed the FIFO: what was in it may be lost."""
        self.on_closed: Callable[[], None] = _nothing
        """Called when that is noticed, by any thread; it must not wait."""
        self._own: OwnDescriptor | None = None
        self._locks: dict[int, Any] = {}  # of each process: a parent's may have been taken when it forked
        self._earlier: list[tuple[OwnDescriptor, float]] = []  # of FIFOs that were removed, and since when

    def open(self) -> int:
        """The number of the open FIFO. OSError when it can't be opened, or once closed."""
        own = self._own
        if own is not None and own.is_own() and not self.closed:
            return own.number
        return self._reopen().number

    def write(self, frame: bytes) -> bool:
        """Write one frame, whole; False when the pipe is full or can't be opened now."""
        own = self._own
        try:
            if own is None or not own.is_own():
                own = self._reopen()
            unpatched.write(own.number, frame)
        except OSError:
            return False
        return True

    def waiting(self) -> int:
        """How many bytes of all writers wait to be read. OSError when that can't be asked."""
        return bytes_in_pipe(self.open())

    def _reopen(self) -> OwnDescriptor:
        if self.closed:
            raise OSError(errno.EBADF, "the queue is closed", self.path)
        before = self._own
        if before is not None and before.is_own():  # another thread has opened it since the caller looked
            return before
        own = OwnDescriptor(_open_fifo(self.path))
        if not self._replace(before, own):  # by another thread
            own.close()
            return self._own or self._reopen()
        if before is not None:
            self.was_closed = True
            self.on_closed()
        weakref.finalize(self, own.close).atexit = False
        return own

    def _replace(self, before: OwnDescriptor | None, own: OwnDescriptor) -> bool:
        """Use another descriptor from now on, unless the one before was replaced already, or the pipe is closed."""
        with self._locks.setdefault(os.getpid(), unpatched.new_rlock()):
            if self._own is not before or self.closed:
                return False
            self._own = own
            return True

    def follow(self) -> None:
        """Open the FIFO again when another one is at the path. OSError.

        The earlier one stays open until it has been read. One that a cleaner has removed is made again by the shipper
        process, which then reads it, or by whoever starts one: until then the removed one is the one that is read.
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
        self.was_closed = True  # what the earlier one holds is not in the one that is asked from now on
        self.on_closed()
        self._own = None
        try:
            self._reopen()
        except OSError:
            self._replace(None, before)
            raise
        self._earlier.append((before, time.monotonic()))

    def take_earlier(self) -> bytes:
        """What is left in an earlier FIFO that no process reads any more, once: it ends with the last descriptor."""
        for each in list(self._earlier):
            own, since = each
            with contextlib.suppress(OSError):
                if own.is_own() and bytes_in_pipe(own.number):
                    if time.monotonic() - since < _UNREAD_SECONDS:
                        continue
                    fcntl.flock(own.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return os.read(own.number, PIPE_BYTES)
            self._earlier.remove(each)
            own.close()
        return b""

    def wait_writable(self, milliseconds: int) -> None:
        """Block this thread until the pipe has space, at most so long; also where an event loop patches `select`."""
        try:
            poller = unpatched.original("select", "poll")()
            poller.register(self.open(), select.POLLOUT)
        except OSError:
            unpatched.original("time", "sleep")(milliseconds / 1000)
            return
        poller.poll(milliseconds)

    def wait_cooperatively(self, milliseconds: int) -> None:
        """The same in a thread of the application: its event loop, if it has one, goes on meanwhile."""
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
        self.on_closed = _nothing  # else the two would hold each other, and the number, until a garbage collection
        if self._own is not None:
            self._own.disable()
        for own, _ in self._earlier:
            own.close()


def _nothing() -> None:
    pass


def _open_fifo(path: str) -> int:
    # For reading too: then opening never waits for a reader, and a dead reader raises no SIGPIPE.
    fd = open_high(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    found = os.fstat(fd)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != owner_uid() or found.st_mode & 0o077:
        close_high(fd)
        raise OSError(errno.EBADF, "not a FIFO of this user", path)
    grow_pipe(fd)
    return fd
