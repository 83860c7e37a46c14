"""Frames that the pipe had no room for, in a file in memory that outlives its process.

One file per process that ever needed one, in a folder on tmpfs (`/dev/shm`): an append there is a copy in memory, waits
for no disk, and survives a SIGKILL. The shipper process takes over the file of an owner that is gone. It also carries
what its process dropped, so that a killed process is accounted for.

    head, see `shared_file.py`: its number is the read offset, then drops: one u64 per reason and level
    then frames, back to back
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Container, Iterator

from .._support.unpatched import new_rlock
from . import frame, shared_file
from .pipe_mirror import SUFFIX
from .shared_file import HEAD, NUMBER_AT, Owner

MAGIC = b"shpover1"
REASONS = ("queue_full", "spool_full", "before_send", "redact", "after_stop", "failed", "not_started")
LEVELS = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
RESERVED_FROM = 30  # the last quarter of the room is kept for WARNING and above

_DROPS_AT = 64
_DROPS = struct.Struct(f"<{len(REASONS) * len(LEVELS)}Q")
_CHUNK = 64 * 1024
_FIRST_HOLE = max(HEAD, mmap.ALLOCATIONGRANULARITY)
_PUNCH = 1024 * 1024  # bytes read that are worth a hole

Drops = dict[str, dict[str, int]]
"""How many were dropped, by reason and by the name of the standard level at or below the event's."""


def level_name(level: int) -> str:
    return LEVELS[min(max(level, 0) // 10, len(LEVELS) - 1)]


def _cell(reason: str, level: int) -> int:
    return REASONS.index(reason) * len(LEVELS) + min(max(level, 0) // 10, len(LEVELS) - 1)


def _named(cells: tuple[int, ...] | list[int]) -> Drops:
    drops: Drops = {}
    for index, count in enumerate(cells):
        if count:
            drops.setdefault(REASONS[index // len(LEVELS)], {})[LEVELS[index % len(LEVELS)]] = count
    return drops


class Overflow:
    """The overflow of one process. Threads of that process share it; no other process writes to it."""

    def __init__(self, folder: str, *, token: bytes, pid: int, limit: int, second: str = "") -> None:
        """``second`` is the folder for when `folder` has no room for a file."""
        self.busy = False  # frames are waiting here, so later ones must queue up behind them
        self._folder = folder
        self._second = second
        self._path = ""
        self._token = token
        self._pid = pid
        self._limit = limit
        self._fd = -1
        self._read = HEAD
        self._end = HEAD
        self._punched = _FIRST_HOLE  # the file has a hole up to here
        self._cells = [0] * (len(REASONS) * len(LEVELS))
        self._lock = new_rlock()
        self._inside = False
        self._nested: deque[tuple[list[bytes], int, bool]] = deque()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the pipe."""
        return self._end - self._read

    @property
    def drops(self) -> Drops:
        return _named(self._cells)

    def append(self, frames: list[bytes], level: int, *, begun: bool = False) -> bool:
        """Queue frames up; False when there is no room. The rest of an event that has `begun` always gets in."""
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
        room = self._limit if level >= RESERVED_FROM else self._limit * 3 // 4
        if not begun and self.waiting + size > room:
            return False
        try:
            self._open()
            written = os.pwrite(self._fd, b"".join(frames), self._end)
        except OSError:  # no room in memory: the same as no room here
            return False
        if written != size:  # room for a part: the rest of the file must stay whole frames
            os.ftruncate(self._fd, self._end)
            return False
        self._end += size
        self.busy = True
        return True

    def drain(self, write: Callable[[bytes], bool], *, most: int = 16) -> bool:
        """Hand up to `most` frames to `write` until it says no; True when nothing waits any more."""
        with self._lock:
            if self._inside:
                return False
            self._inside = True
            try:
                self._hand_over(write, most)
                self._store_nested()
                return not self.busy
            finally:
                self._inside = False

    def _hand_over(self, write: Callable[[bytes], bool], most: int) -> None:
        if not self.busy:
            return
        chunk = os.pread(self._fd, min(most * frame.MAX_FRAME, self.waiting), self._read)
        at = 0
        for _ in range(most):
            size = frame.length(chunk, at)
            if size is None or at + size > len(chunk) or not write(chunk[at : at + size]):
                break
            at += size
            self._read += size
            os.pwrite(self._fd, self._read.to_bytes(8, "little"), NUMBER_AT)
        if self._read >= self._end:
            self._empty()
        elif self._read - self._punched >= _PUNCH:
            self._punch()

    def _empty(self) -> None:
        os.ftruncate(self._fd, HEAD)
        os.pwrite(self._fd, HEAD.to_bytes(8, "little"), NUMBER_AT)
        self._read = self._end = HEAD
        self._punched = _FIRST_HOLE
        self.busy = False

    def _punch(self) -> None:
        """Give back the memory of what was read: a file that never quite empties must not grow for ever."""
        stop = self._read - self._read % mmap.ALLOCATIONGRANULARITY
        # A system that can't gives it back when all is read.
        can_fail = contextlib.suppress(OSError, ValueError, AttributeError)
        with can_fail, mmap.mmap(self._fd, stop - self._punched, offset=self._punched) as read:
            read.madvise(mmap.MADV_REMOVE)
        self._punched = stop

    def count(self, reason: str, level: int) -> None:
        """Count one dropped event where the shipper process will find it, even when this process is killed."""
        with self._lock:
            self._count(reason, level)

    def _count(self, reason: str, level: int) -> None:
        cell = _cell(reason, level)
        self._cells[cell] += 1
        with contextlib.suppress(OSError):  # then only this process knows, and says so in its own report
            self._open()
            os.pwrite(self._fd, self._cells[cell].to_bytes(8, "little"), _DROPS_AT + 8 * cell)

    def _open(self) -> None:
        if self._fd >= 0:
            return
        try:
            self._open_in(self._folder)
        except OSError:
            if self._second in ("", self._folder):
                raise
            self._open_in(self._second)

    def _open_in(self, folder: str) -> None:
        # One that was closed before may still be there, for the shipper process.
        names = (f"{self._token.hex()}-{attempt}" for attempt in itertools.count())
        self._fd, self._path = shared_file.create(folder, names, MAGIC, Owner(self._pid, self._token, HEAD))

    def forget(self) -> None:
        """In a forked child: let go of the parent's file, which stays the parent's."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Leave the file to the shipper process when there is something in it, else remove it."""
        with self._lock:
            self._limit = 0  # no event that has not begun gets in any more
            if self._fd < 0:
                return
            if not self.busy and not any(self._cells):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = -1
            self._read = self._end = HEAD
            self._cells = [0] * len(self._cells)
            self.busy = False


def leave(folder: str, frames: bytes) -> str:
    """Leave frames that nobody else holds to the next shipper process; the file's name. OSError when memory is full."""
    # In the order of their names, and this before any other: what came later of an event is in its process's overflow.
    token = (time.time_ns() // 1_000_000).to_bytes(8, "big")
    left = Overflow(folder, token=token, pid=os.getpid(), limit=len(frames))
    if not left.append([frames], frame.MAX_LEVEL):
        raise OSError(errno.ENOSPC, "no room in memory", folder)
    left.close()
    return os.path.basename(left._path)


def spilt(frames: bytes) -> Drops:
    """The events in these frames, as drops for want of any room."""
    cells = [0] * (len(REASONS) * len(LEVELS))
    for view in frame.scan(frames, complete=True).frames:
        if not view.part and not view.flags:
            cells[_cell("spool_full", view.level)] += 1
    return _named(cells)


class Abandoned:
    """The overflow of a process that is gone, in the hands of the shipper process."""

    def __init__(self, path: str, fd: int, token: bytes, pid: int, read: int) -> None:
        self.name = os.path.basename(path)
        self.token = token
        self.pid = pid
        self.path = path
        self._fd = fd
        self._read = read

    @property
    def drops(self) -> Drops:
        return _named(_DROPS.unpack(os.pread(self._fd, _DROPS.size, _DROPS_AT)))

    @property
    def frames(self) -> bytes:
        """What nobody put into the pipe, in whole frames: one that was being written at the kill was never accepted."""
        pieces = []
        at = self._read
        while chunk := os.pread(self._fd, _CHUNK, at):
            pieces.append(chunk)
            at += len(chunk)
        found = b"".join(pieces)
        return found[: frame.scan(found, growing=True).consumed]

    def pass_over(self, size: int) -> None:
        """So much is in the journal: whoever takes the file over next, should we be killed, must not add that."""
        self._read += size
        os.pwrite(self._fd, self._read.to_bytes(8, "little"), NUMBER_AT)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close()

    def close(self) -> None:
        os.close(self._fd)


def living_drops(folder: str) -> dict[str, Drops]:
    """What the processes that have an overflow say they dropped: name of the file → drops."""
    drops: dict[str, Drops] = {}
    for path in _files(folder):
        with contextlib.suppress(OSError, struct.error):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.pread(fd, len(MAGIC), 0) == MAGIC:
                    drops[os.path.basename(path)] = _named(_DROPS.unpack(os.pread(fd, _DROPS.size, _DROPS_AT)))
            finally:
                os.close(fd)
    return drops


def abandoned(folder: str, known: Container[str]) -> Iterator[Abandoned]:
    """The overflows whose owners are gone, save the `known` paths; each is locked for us until closed or removed."""
    for path in _files(folder):
        if path in known:
            continue
        with contextlib.suppress(OSError):
            taken = shared_file.take(path, MAGIC)
            if taken is not None:
                fd, (pid, token, read) = taken
                yield Abandoned(path, fd, token, pid, read)


def _files(folder: str) -> list[str]:
    return [path for path in shared_file.files(folder) if not path.endswith(SUFFIX)]
