"""A copy of what a process wrote into the pipe last, in a file in memory.

Protects from: the loss of up to 1 MiB of accepted events. The kernel keeps a pipe's content only while a process has it
open; when all of them are killed at once (the out-of-memory killer on a group, a container or a unit that is killed),
what the shipper process had not read is gone. The next shipper process finds it here.
How likely: as likely as such a kill. The pipe then holds the events of some milliseconds, or many more when the shipper
process is slow or stopped. It does not help when /dev/shm ends together with the container.
Costs: 0.1 µs a frame; 68 KiB of shared memory a process, up to 2 MiB while the pipe is full; this module,
`orphans.OrphanedMirror` and `process/ingest/recovery.py`. It meets the overflow (what is drained from there is noted
here) and the account (which knows what is in the journal already).

Invariants
* Whatever this process wrote and the pipe still holds is here, unless memory is short.
* Noting a frame never waits for another process, nor grows the process's resident memory.
* What may have been in a pipe that was open nowhere, or removed, is not overwritten while there is other space.
* Memory that overflows may need is left to them: their events are nowhere else.

Layout: see `shared_file.py`; from 64 what `life.py` describes; from 4096 blocks of 32 KiB: whole frames, and behind
them remains of older ones. While memory suffices, a block is overwritten only when all of it has left the pipe. Two are
enough while the pipe is read; when it fills up, there are as many as it holds.

Its process writes the mirror. The shipper process reads or removes it when that process is gone (see `orphans.py`).
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import sys
from collections import deque
from collections.abc import Callable

from ..._support.unpatched import new_rlock
from ...spool.files import open_file
from ...spool.numbers import close_high, open_high
from .. import frame
from . import shared_file
from .shared_file import CLOSED_MEMORY, HEAD_BYTES, Owner

MAGIC = b"shptrail"
SUFFIX = ".trail"
BLOCK_BYTES = 32 * 1024
KEPT_BLOCKS = 2
CLEAN_AT, LIFE_AT = 64, 128
CLEAN = b"goodbye\0"
MAX_BYTES = 64 * BLOCK_BYTES  # a pipe's 1 MiB, and more than enough for the unused ends of blocks
SPARED_BYTES = 64 * 1024 * 1024  # with less free, or less than half of a smaller memory, leave it to overflows
_FULL_BLOCK_BYTES = BLOCK_BYTES - frame.MAX_FRAME  # bytes of frames in a full block, at least

_MADV_POPULATE_WRITE = 23  # Linux 5.14; OSError where touching the memory would kill the process

_has_gil = getattr(sys, "_is_gil_enabled", lambda: True)


class PipeMirror:
    """The mirror of one process. Its threads share it; no other process writes to it."""

    def __init__(
        self,
        folder: str,
        waiting: Callable[[], int],
        *,
        token: bytes,
        pid: int,
        spool: str = "",
        life: bytes = b"",
    ) -> None:
        """``waiting`` returns how many bytes are in the pipe; ``life`` is written into the head (see `life.py`).

        OSError when memory has no space.
        """
        self._waiting = waiting
        self._lock = new_rlock()
        self._filled: list[float] = []  # by allocated block: how many blocks had been begun when it was full
        self._keeps_all = False
        self._begun = 0
        self._current = self._at = self._end = 0
        self._turning = False
        self._late: deque[bytes] = deque()  # frames for the next block
        names = [f"{token.hex()}{SUFFIX}"]
        own, self._path = shared_file.create(folder, names, MAGIC, Owner(pid, token, 0), spool=spool)
        try:
            os.pwrite(own.number, life, LIFE_AT)
            os.ftruncate(own.number, HEAD_BYTES + MAX_BYTES)
            self._turn_to(self._allocate())
            self._mapping = shared_file.Mapping(own, HEAD_BYTES + MAX_BYTES)  # keeps the lock
            self._memory = self._mapping.memory
        except (OSError, ValueError):
            self._remove()
            raise
        finally:
            own.close()

    def _note(self, piece: bytes) -> None:
        """Note a frame that was written to the pipe."""
        size = len(piece)
        # No call and no branch until the place is reserved (Python 3.10 may switch threads after an `if` too), so that
        # no other thread and no signal handler gets the same place.
        at = self._at
        self._at = end = at + size
        if end > self._end:
            self._note_in_next_block(piece)
            return
        try:
            self._memory[at:end] = piece
        except ValueError:  # closed by another thread
            return

    def _note_locked(self, piece: bytes) -> None:
        """`_note` without a GIL: no two threads get the same place, and none writes into memory that is unmapped."""
        with self._lock:
            self._note(piece)

    note = _note if _has_gil() else _note_locked  # the interpreter may enable the GIL later, but never disable it

    def _note_in_next_block(self, piece: bytes) -> None:
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
            if self._at > self._end:  # else another thread has begun a block while this one waited
                self._turn_to(self._next_block())
            self._note(piece)

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _turn_to(self, block: int) -> None:
        if self._current >= KEPT_BLOCKS:  # the first blocks stay resident: they are used again and again
            self._unmap(self._current)
        self._begun += 1
        self._current = block
        self._at = HEAD_BYTES + block * BLOCK_BYTES
        self._end = self._at + BLOCK_BYTES

    def _unmap(self, block: int) -> None:
        """Take a block out of this process's resident memory; the file keeps it."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._memory.madvise(mmap.MADV_DONTNEED, HEAD_BYTES + block * BLOCK_BYTES, BLOCK_BYTES)

    def _next_block(self) -> int:
        """A block that may be overwritten, else a new one, else the one that has been full for longest."""
        self._filled[self._current] = self._begun
        waiting = self._waiting()
        if self._keeps_all:
            self._filled, self._keeps_all = [math.inf] * len(self._filled), False
        free = [n for n, filled in enumerate(self._filled) if (self._begun - filled) * _FULL_BLOCK_BYTES >= waiting]
        if len(free) > KEPT_BLOCKS and len(free) >= len(self._filled) - 1 and self._current < KEPT_BLOCKS:
            self._shrink()
        if free:
            return free[0]
        if len(self._filled) < MAX_BYTES // BLOCK_BYTES:
            with contextlib.suppress(OSError):
                return self._allocate()
        return self._filled.index(min(self._filled))

    def _allocate(self) -> int:
        """Add a block and allocate its memory: writing to a block without memory would kill the process."""
        block = len(self._filled)
        try:
            fd = open_high(self._path, os.O_RDWR | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):  # the process has changed its root or its user
            self._memory.madvise(_MADV_POPULATE_WRITE, HEAD_BYTES + block * BLOCK_BYTES, BLOCK_BYTES)
            self._filled.append(0)
            return block
        try:
            if block >= KEPT_BLOCKS and _is_scarce(fd):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
            os.posix_fallocate(fd, HEAD_BYTES + block * BLOCK_BYTES, BLOCK_BYTES)
        finally:
            close_high(fd)
        self._filled.append(0)
        return block

    def keep_all(self) -> None:
        """Overwrite nothing that the mirror holds now while there is other space: the pipe may have lost it."""
        self._keeps_all = True

    def _shrink(self) -> None:
        """Free the memory of all blocks but the first `KEPT_BLOCKS`."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._memory.madvise(
                mmap.MADV_REMOVE, HEAD_BYTES + KEPT_BLOCKS * BLOCK_BYTES, MAX_BYTES - KEPT_BLOCKS * BLOCK_BYTES
            )
            del self._filled[KEPT_BLOCKS:]

    # -- the end -----------------------------------------------------------------------------------------------------

    def note_clean_end(self) -> None:
        """Note that the process ends normally. It may still write afterwards."""
        with self._lock, contextlib.suppress(ValueError):
            self._memory[CLEAN_AT : CLEAN_AT + len(CLEAN)] = CLEAN

    def touch(self) -> bool:
        """Touch the file, so that no cleaner removes it; return False when it was removed."""
        try:
            os.utime(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:  # the process has changed its user or its root: the mapping is still the file
            pass
        return True

    def forget(self) -> None:
        """In a forked child: close the parent's file without removing it."""
        self._close_memory()

    def close(self, *, is_needed: bool = False) -> None:
        """Close the file; remove it if the pipe is empty and it is not ``is_needed``, else leave it for recovery."""
        with self._lock, contextlib.suppress(OSError):
            self.note_clean_end()
            self._close_memory()
            if not is_needed and not self._waiting():
                self._remove()

    def _close_memory(self) -> None:
        self._memory = CLOSED_MEMORY
        self._mapping.close()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def read_mirror(path: str, token: bytes) -> list[tuple[int, int, bytes]]:
    """The frames of events in the mirror of the process with this token: sequence number, part and the frame itself.

    They are in the order of logging. OSError when it can't be read now.
    """
    fd = open_file(path, os.O_RDONLY)
    try:
        data = os.pread(fd, MAX_BYTES, HEAD_BYTES)
    finally:
        close_high(fd)
    # A frame with another token is content of an event whose own header was overwritten.
    views = [view for view in frame.scan(data, complete=True).frames if not view.flags and view.token == token]
    return sorted((view.seq, view.part, data[view.start : view.end]) for view in views)


def frames_of_event(folder: str, token: bytes, seq: int) -> dict[int, bytes]:
    """Return an event's frames in the mirror of its process: part → frame; empty when it can't be read."""
    with contextlib.suppress(OSError):
        found = read_mirror(os.path.join(folder, f"{token.hex()}{SUFFIX}"), token)
        return {part: piece for number, part, piece in found if number == seq}
    return {}


def _is_scarce(fd: int) -> bool:
    """Whether the free memory should be left to overflows."""
    space = os.fstatvfs(fd)
    return space.f_bavail * space.f_frsize < min(SPARED_BYTES, space.f_blocks * space.f_frsize // 2)
