"""Frames that the pipe had no space for, in a file in memory that outlives its process.

Invariants
* Frames leave in the order in which they came, and each is removed only after the pipe has it.
* The file ends with a whole frame at every moment, or with one whose append was never acknowledged.
* What the process dropped is counted in the file too, so that a killed process is accounted for.
* An append is a copy in memory: the folder is on tmpfs. Only with little space there is it in the spool.

Layout: see `shared_file.py`; the number in the head is the offset of the first frame that the pipe does not have; at 64
the table of drops (see `../drops.py`); from 4096 frames, back to back.

Its process makes the file (see `overflow_file.py`) and writes to it. The shipper process reads the drops of living
processes, and takes over the file of a dead one (see `orphans.py`).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import time
from collections import deque
from collections.abc import Callable

from ..._support.unpatched import new_rlock
from .. import drops, frame
from ..drops import Drops
from .overflow_file import OverflowFile
from .shared_file import HEAD_BYTES, NUMBER_AT, Owner

DROPS_AT = 64
RESERVED_FROM = 30  # the last quarter is kept for WARNING and above

_FIRST_HOLE = max(HEAD_BYTES, mmap.ALLOCATIONGRANULARITY)
_PUNCH_BYTES = 1024 * 1024  # a hole is made after so many bytes were read


class Overflow:
    """The overflow of one process. Its threads share it; no other process writes to it."""

    def __init__(self, folder: str, *, token: bytes, pid: int, limit: int, second: str = "", spool: str = "") -> None:
        """`limit` is in bytes; `second` is the folder to use when `folder` has little space.

        `spool` is the path of the spool.
        """
        self.busy = False  # frames wait here, so later ones must queue up behind them
        self._file = OverflowFile(
            (folder, second) if second and second != folder else (folder,),
            Owner(pid, token, HEAD_BYTES),
            limit=limit,
            spool=spool,
            on_taken_over=self._forget_content,
        )
        self._read = HEAD_BYTES
        self._end = HEAD_BYTES
        self._punched = _FIRST_HOLE  # the file has a hole up to here
        self._table = drops.empty_table()  # the drops in the file
        self._earlier = drops.empty_table()  # the drops in files that the shipper process has taken over
        self._lock = new_rlock()
        self._inside = False
        self._nested: deque[tuple[list[bytes], int, bool]] = deque()

    @property
    def path(self) -> str:
        """The path of the file; empty before its first use."""
        return self._file.path

    @property
    def waiting(self) -> int:
        """Bytes that wait for the pipe."""
        return self._end - self._read

    @property
    def drops(self) -> Drops:
        with self._lock:
            return drops.named([now + before for now, before in zip(self._table, self._earlier, strict=True)])

    # -- appending ---------------------------------------------------------------------------------------------------

    def append(self, frames: list[bytes], level: int, *, begun: bool = False) -> bool:
        """Append an event's frames; False when they do not fit. The rest of a ``begun`` event may exceed the limit."""
        with self._lock:
            if self._inside:  # a signal handler or a destructor logs while this thread is in here
                self._nested.append((frames, level, begun))
                return True
            self._inside = True
            try:
                stored = self._store(frames, level, begun)
                self._store_nested()
                return stored
            finally:
                self._inside = False

    def _store_nested(self) -> None:
        while self._nested:
            frames, level, begun = self._nested.popleft()
            if not self._store(frames, level, begun):
                self._count("queue_full", level)

    def _store(self, frames: list[bytes], level: int, begun: bool) -> bool:
        size = sum(map(len, frames))
        limit = self._file.limit if level >= RESERVED_FROM else self._file.limit * 3 // 4
        if not begun and self.waiting + size > limit:
            return False
        try:
            written = self._file.use(lambda fd: os.pwrite(fd, b"".join(frames), self._end))
            if written != size:  # space for a part only: the file must still end with a whole frame
                self._file.use(lambda fd: os.ftruncate(fd, self._end))
                return False
        except OSError:  # no space in memory: the same as a full overflow
            return False
        self._end += size
        self.busy = True
        return True

    # -- draining ----------------------------------------------------------------------------------------------------

    def drain(self, write: Callable[[bytes], bool], *, most: int = 16) -> bool:
        """Hand up to `most` frames to `write` until it returns False; True when no frame waits any more.

        OSError when the file can't be opened now.
        """
        with self._lock:
            return self._has_done(lambda: self._hand_over(write, most)) and not self.busy

    def _has_done(self, work: Callable[[], None]) -> bool:
        """Do the work and store what is logged meanwhile; False, and nothing is done, while this thread is in here."""
        if self._inside:
            return False
        self._inside = True
        try:
            work()
        finally:
            self._store_nested()
            self._inside = False
        return True

    def _hand_over(self, write: Callable[[bytes], bool], most: int) -> None:
        if self.busy:
            chunk = self._file.use(lambda fd: os.pread(fd, min(most * frame.MAX_FRAME, self.waiting), self._read))
        if not self.busy:  # or `use` found that the shipper process has taken it over
            return
        at = 0
        for _ in range(most):
            size = frame.length(chunk, at)
            if size is None or at + size > len(chunk) or not write(chunk[at : at + size]):
                break
            at += size
            self._read += size
            self._file.use(lambda fd: os.pwrite(fd, self._read.to_bytes(8, "little"), NUMBER_AT))
            if not self.waiting:  # also when it was taken over in between
                break
        if self._read >= self._end:
            self._file.use(self._empty)
        elif self._read - self._punched >= _PUNCH_BYTES:
            self._punch()

    def _empty(self, fd: int) -> None:
        os.ftruncate(fd, HEAD_BYTES)
        os.pwrite(fd, HEAD_BYTES.to_bytes(8, "little"), NUMBER_AT)
        self._reset()

    def _reset(self) -> None:
        self._read = self._end = HEAD_BYTES
        self._punched = _FIRST_HOLE
        self.busy = False

    def _punch(self) -> None:
        """Free the memory of what was read: a file that is never quite empty must not grow for ever."""
        stop = self._read - self._read % mmap.ALLOCATIONGRANULARITY
        self._file.free(self._punched, stop)
        self._punched = stop

    # -- counting ----------------------------------------------------------------------------------------------------

    def count(self, reason: str, level: int) -> None:
        """Count one dropped event in the file, where the shipper process finds it, also after a kill."""
        with self._lock:
            self._count(reason, level)

    def _count(self, reason: str, level: int) -> None:
        cell = drops.cell(reason, level)
        with contextlib.suppress(OSError):
            self._file.open()  # first: this may find that the shipper process has taken over the file and its table
        self._table[cell] += 1
        with contextlib.suppress(OSError):  # then only this process's own report counts it
            self._file.use(lambda fd: os.pwrite(fd, self._table[cell].to_bytes(8, "little"), DROPS_AT + 8 * cell))

    # -- the file ------------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Touch the file, so that no cleaner removes it. Make a removed one again, with its content, if it fits."""
        with self._lock:
            self._has_done(self._touch)

    def _touch(self) -> None:
        with contextlib.suppress(OSError):
            self._file.touch(self._read, self._end)

    def forget(self) -> None:
        """In a forked child: close the parent's file without removing it."""
        self._file.close(remove=False)

    def close(self) -> None:
        """Remove the file when it has no frames and no drops, else leave it to the shipper process."""
        with self._lock:
            self._file.limit = 0  # from now on only the rest of an event that has begun gets in
            is_empty = not self.busy and not any(self._table)
            if not is_empty:
                self._touch()  # makes a removed file again, which nobody would find
            if self._file.close(remove=is_empty):
                self._table = self._earlier = drops.empty_table()
                self._reset()

    def _forget_content(self) -> None:
        """Begin empty, since the shipper process has taken over the file: it journals and counts the content."""
        self._earlier = [now + before for now, before in zip(self._table, self._earlier, strict=True)]
        self._table = drops.empty_table()
        self._reset()


def write_orphan(folder: str, frames: bytes) -> str:
    """Store frames for the next shipper process in an orphaned overflow; return its name. OSError without space."""
    # Orphans are adopted in the order of their names, and this one has to be first: the rest of an event that it begins
    # is in its process's overflow.
    token = (time.time_ns() // 1_000_000).to_bytes(8, "big")
    made = Overflow(folder, token=token, pid=os.getpid(), limit=len(frames))
    if not made.append([frames], frame.MAX_LEVEL):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)
    made.close()
    return os.path.basename(made.path)
