"""What a process wrote into the pipe last, in a file in memory: should everybody who holds the pipe be killed at once,
which takes away what is in it, the next start finds here what did not get into the journal.

    head, see `shared_file.py`
    then blocks of 32 KiB: whole frames, and behind them what was there before

A block is written over only when everything in it has left the pipe. Two are enough as long as the pipe is emptied;
when it fills, there are as many as the pipe holds.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import termios
from collections import deque
from collections.abc import Callable, Iterator

from .._support.unpatched import new_rlock
from ..spool.files import open_file
from . import frame, shared_file
from .shared_file import HEAD, WANTING, Owner

MAGIC = b"shptrail"
SUFFIX = ".trail"
BLOCK = 32 * 1024
FEW = 2  # blocks that are kept when more are not wanted any longer
MOST = 64 * BLOCK  # a pipe's 1 MiB, and more than what is lost at the ends of blocks
SPARED = 64 * 1024 * 1024  # bytes of the memory, or half of it, that are left to the overflows
_LEAST = BLOCK - frame.MAX_FRAME  # bytes of frames in a full block


def waiting_in(pipe: int) -> int:
    """Bytes in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])


class Trail:
    """The trail of one process. Its threads share it; no other process writes to it."""

    def __init__(self, folder: str, pipe: int, *, token: bytes, pid: int) -> None:
        """``pipe`` is a descriptor of what the frames are written to. OSError when memory has no room."""
        self._pipe = pipe
        self._lock = new_rlock()
        self._filled: list[int] = []  # for each block that has memory: how many had been begun when it was full
        self._begun = 0
        self._current = self._at = self._end = 0
        self._turning = False
        self._late: deque[bytes] = deque()  # for the next block
        fd, self._path = shared_file.create(folder, [f"{token.hex()}{SUFFIX}"], MAGIC, Owner(pid, token, 0))
        try:
            os.ftruncate(fd, HEAD + MOST)
            self._turn_to(self._allocate())
            self._memory = mmap.mmap(fd, HEAD + MOST)  # has a descriptor of its own, which holds the lock on
        except (OSError, ValueError):
            self._remove()
            raise
        finally:
            os.close(fd)

    def note(self, piece: bytes) -> None:
        """Keep a frame that is in the pipe."""
        size = len(piece)
        # Until the place is ours nothing is called or decided (Python 3.10 lets others run after an `if` too), so that
        # no other thread and no signal handler comes between.
        at = self._at
        self._at = end = at + size
        if end > self._end:
            self._note_in_next(piece)
            return
        try:
            self._memory[at:end] = piece
        except ValueError:  # closed by another thread
            return

    def _note_in_next(self, piece: bytes) -> None:
        with self._lock:
            self._late.append(piece)
            if self._turning:  # a signal handler logs while this thread is in here
                return
            self._turning = True
            try:
                while self._late:
                    self._note_late(self._late.popleft())
            finally:
                self._turning = False

    def _note_late(self, piece: bytes) -> None:
        with contextlib.suppress(ValueError, OSError):
            if self._at > self._end:  # else another thread has turned while we waited
                self._turn_to(self._next())
            self.note(piece)

    def _turn_to(self, block: int) -> None:
        if self._current >= FEW:  # the first are used again and again
            self._let_go_of(self._current)
        self._begun += 1
        self._current = block
        self._at = HEAD + block * BLOCK
        self._end = self._at + BLOCK

    def _let_go_of(self, block: int) -> None:
        """The file has it; this process's share of the memory would only grow."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._memory.madvise(mmap.MADV_DONTNEED, HEAD + block * BLOCK, BLOCK)

    def _next(self) -> int:
        """A block that may be written over, else a new one, else that which was full first."""
        self._filled[self._current] = self._begun
        waiting = waiting_in(self._pipe)
        free = [block for block, filled in enumerate(self._filled) if (self._begun - filled) * _LEAST >= waiting]
        if len(free) > FEW and len(free) >= len(self._filled) - 1 and self._current < FEW:
            self._give_back()
        if free:
            return free[0]
        if len(self._filled) < MOST // BLOCK:
            with contextlib.suppress(OSError):
                return self._allocate()
        return self._filled.index(min(self._filled))

    def _allocate(self) -> int:
        """One more block, with its memory: where there is none, touching it would kill the process."""
        block = len(self._filled)
        fd = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if block >= FEW and _is_scarce(fd):
                raise OSError(errno.ENOSPC, "the rest is for the overflows", self._path)
            os.posix_fallocate(fd, HEAD + block * BLOCK, BLOCK)
        finally:
            os.close(fd)
        self._filled.append(0)
        return block

    def _give_back(self) -> None:
        """The memory of all blocks but a few."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._memory.madvise(mmap.MADV_REMOVE, HEAD + FEW * BLOCK, MOST - FEW * BLOCK)
            del self._filled[FEW:]

    def forget(self) -> None:
        """In a forked child: let go of the parent's file, which stays the parent's."""
        self._memory.close()

    def close(self) -> None:
        """Remove the file when nothing of ours is in the pipe, else leave it to the shipper process."""
        with self._lock, contextlib.suppress(OSError):
            self._memory.close()
            if not waiting_in(self._pipe):
                self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _is_scarce(fd: int) -> bool:
    """Whether the memory's room is better left to overflows, whose events are nowhere else: ours are in the pipe."""
    room = os.fstatvfs(fd)
    return room.f_bavail * room.f_frsize < min(SPARED, room.f_blocks * room.f_frsize // 2)


class Left:
    """The trail of a process that is gone. Of many it takes no descriptors."""

    def __init__(self, path: str, token: bytes) -> None:
        self.token = token
        self.path = path

    def lost(self, journaled: Callable[[int, int], bool]) -> bytes:
        """The frames that are not in the journal, in the order of logging; `journaled` says it of an event's number and
        a part. OSError when it can't be read now."""
        try:
            fd = open_file(self.path, os.O_RDONLY)
        except FileNotFoundError:  # somebody has cleaned up
            return b""
        try:
            data = os.pread(fd, MOST, HEAD)
        finally:
            os.close(fd)
        views = [view for view in frame.scan(data, complete=True).frames if self._is_event(view)]
        views = [view for view in views if not journaled(view.seq, view.part)]
        views.sort(key=lambda view: (view.seq, view.part))
        return b"".join(data[view.start : view.end] for view in views)

    def _is_event(self, view: frame.FrameView) -> bool:
        # Of another process's token is what an event carries whose head was written over.
        return not view.flags and view.token == self.token

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def left(folder: str) -> Iterator[Left]:
    """The trails whose owners are gone. OSError when that can't be found out now, for want of a descriptor or so."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for path in (os.path.join(folder, name) for name in names if name.endswith(SUFFIX)):
        try:
            taken = shared_file.take(path, MAGIC)
        except OSError as error:
            if error.errno in WANTING:
                raise
            continue  # somebody else's, or gone
        if taken is not None:
            fd, owner = taken
            os.close(fd)
            yield Left(path, owner.token)
