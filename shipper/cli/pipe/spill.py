"""A spill: what `shipper pipe` has read and not shipped yet, in a folder that outlives its processes.

position         two u64: bytes taken in, bytes shipped; its owner holds an exclusive flock on it
reading.json     how its lines become events
00000000 …       the bytes as they came, `SEGMENT` of them in each file
00000000.times   when they came: a u64 offset and a double, seconds since the epoch, for each piece
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import shutil
import struct
import time
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any

from ...spool.files import open_file

SEGMENT = 16 * 1024 * 1024
LIMIT = 1024 * 1024 * 1024  # bytes that may wait to be shipped; then the writer waits
PIECE = 1024 * 1024  # bytes that are taken in at once
_CHUNK = 64 * 1024
_HEAD = 4096
_U64 = struct.Struct("<Q")
_TIME = struct.Struct("<Qd")


class Spill:
    """The folder of one `shipper pipe`. One process takes in; its forked child reads and settles."""

    def __init__(self, folder: str, head: int) -> None:
        self._folder = folder
        self._head = head
        self._shared = mmap.mmap(head, _HEAD)
        self._fd = -1  # the segment that is being written, or read
        self._times = -1
        self._number = -1
        self._read = self.shipped
        self._arrivals: deque[tuple[int, float]] = deque()
        self._partial = b""

    @classmethod
    def create(cls, parent: str, reading: dict[str, Any]) -> Spill:
        """Create and lock a new spill in the folder ``parent``. OSError when that fails."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(parent, 0o700)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        hidden, folder = os.path.join(parent, f".{name}"), os.path.join(parent, name)
        os.mkdir(hidden, 0o700)
        with open(open_file(os.path.join(hidden, "reading.json"), os.O_WRONLY | os.O_CREAT), "w") as file:
            json.dump(reading, file)
        head = open_file(os.path.join(hidden, "position"), os.O_RDWR | os.O_CREAT)
        fcntl.flock(head, fcntl.LOCK_EX)
        os.posix_fallocate(head, 0, _HEAD)
        os.rename(hidden, folder)
        return cls(folder, head)

    # -- taking in ---------------------------------------------------------------------------------------------------

    def take(self, source: int) -> int:
        """Append at most `PIECE` bytes from a descriptor; return how many, 0 at its end of file.

        OSError (ENOSPC among others) when the disk does not take it; nothing is lost then.
        """
        at = self.taken
        self._open_to_write(at // SEGMENT)
        inside = at % SEGMENT
        size = _move(source, self._fd, min(PIECE, SEGMENT - inside), inside)
        if size:
            _U64.pack_into(self._shared, 0, at + size)
            with contextlib.suppress(OSError):  # without it the times of its lines are less exact
                os.write(self._times, _TIME.pack(at + size, time.time()))
        return size

    def last(self, size: int) -> bytes:
        """The bytes that the last `take` has moved."""
        return os.pread(self._fd, size, (self.taken - size) % SEGMENT)

    def _open_to_write(self, number: int) -> None:
        if number == self._number:
            return
        self._let_go()
        path = self._segment(number)
        self._times = open_file(f"{path}.times", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._fd = open_file(path, os.O_RDWR | os.O_CREAT)
        self._number = number

    # -- shipping ----------------------------------------------------------------------------------------------------

    def rewind(self) -> None:
        """Begin to read at `shipped`; to be called in the child, before `next`."""
        self._let_go()
        self._read = self.shipped

    @property
    def taken(self) -> int:
        """Bytes taken in so far."""
        return int(_U64.unpack_from(self._shared, 0)[0])

    @property
    def shipped(self) -> int:
        """Bytes whose lines have been shipped."""
        return int(_U64.unpack_from(self._shared, 8)[0])

    @property
    def waiting(self) -> int:
        return self.taken - self.shipped

    @property
    def reading(self) -> dict[str, Any]:
        """The options that it was created with, for `Reading`."""
        with open(open_file(os.path.join(self._folder, "reading.json"), os.O_RDONLY)) as file:
            found: dict[str, Any] = json.load(file)
        return found

    def next(self) -> bytes:
        """The next bytes, at most 64 KiB; empty when there are none for now."""
        while True:
            number, inside = divmod(self._read, SEGMENT)
            if number != self._number and not self._open_to_read(number):
                return b""
            chunk = os.pread(self._fd, _CHUNK, inside)
            self._read += len(chunk)
            return chunk

    def _open_to_read(self, number: int) -> bool:
        self._let_go()
        try:
            self._fd = open_file(self._segment(number), os.O_RDONLY)
            self._times = open_file(f"{self._segment(number)}.times", os.O_RDONLY)
        except FileNotFoundError:
            self._let_go()
            return False
        self._number, self._partial = number, b""
        return True

    def arrival(self, offset: int) -> float:
        """When the byte before this offset was taken in (seconds since the epoch), or the best guess."""
        while not self._arrivals or self._arrivals[-1][0] < offset:
            if not self._more_arrivals():
                return self._arrivals[-1][1] if self._arrivals else time.time()
        while self._arrivals[0][0] < offset:
            self._arrivals.popleft()
        return self._arrivals[0][1]

    def _more_arrivals(self) -> bool:
        if self._times < 0:
            return False
        data = self._partial + os.read(self._times, 256 * _TIME.size)
        whole = len(data) - len(data) % _TIME.size
        self._partial = data[whole:]
        self._arrivals.extend((end, when) for end, when in _TIME.iter_unpack(data[:whole]))
        return whole > 0

    def settle(self, offset: int) -> None:
        """Note that everything before this offset has been shipped, and delete the segments before it.

        After a kill, shipping begins at this offset.
        """
        before = self.shipped // SEGMENT
        _U64.pack_into(self._shared, 8, offset)
        for number in range(before, offset // SEGMENT):
            for path in (self._segment(number), f"{self._segment(number)}.times"):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    # -- the end -----------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Delete the spill, once all of it has been shipped."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self.close()
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._folder))

    def close(self) -> None:
        self._let_go()
        self._shared.close()
        os.close(self._head)

    def _let_go(self) -> None:
        for fd in (self._fd, self._times):
            if fd >= 0:
                os.close(fd)
        self._fd = self._times = self._number = -1

    def _segment(self, number: int) -> str:
        return os.path.join(self._folder, f"{number:08d}")


def abandoned(parent: str) -> Iterator[Spill]:
    """The spills whose owners are gone, oldest first; each is locked by this process until it is closed or removed."""
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(parent)):
            folder = os.path.join(parent, name)
            if name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                head = open_file(os.path.join(folder, "position"), os.O_RDWR)
                try:
                    fcntl.flock(head, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found = Spill(folder, head)
                except (OSError, ValueError):
                    os.close(head)
                    continue
                yield found


def _move(source: int, target: int, size: int, at: int) -> int:
    """Move up to ``size`` bytes to offset ``at`` of the target, from a pipe without copying them; return how many."""
    if hasattr(os, "splice"):
        try:
            return os.splice(source, target, size, offset_dst=at)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):  # no pipe, or forbidden
                raise
    return _copy(source, target, size, at)


def _copy(source: int, target: int, size: int, at: int) -> int:
    os.posix_fallocate(target, at, size)  # before reading: what was read must fit
    data = os.read(source, size)
    os.ftruncate(target, at + len(data))
    view = memoryview(data)
    while view:
        written = os.pwrite(target, view, at)
        view, at = view[written:], at + written
    return len(data)
