"""Append-only segments of exactly the bytes that came out of the pipe: one writer, any number of readers."""

from __future__ import annotations

import bisect
import contextlib
import errno
import mmap
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from ..spool.files import open_file
from ..transport import frame
from ..transport.shared_file import NO_RESOURCES
from .segments import segment_path, segments

CHUNK = 256 * 1024
_BLOCK = 4096  # bytes that a disk can't read at once
_TAIL = 4 * frame.MAX_FRAME
MOST_FOREIGN = 100  # numbers in a row that are passed over because somebody else's files have them
_SETTLED = 2_000_000_000  # nanoseconds after which a folder's next change certainly bears another time
HALF_FRAME = 1.0  # seconds for the rest of a frame whose beginning is at the journal's end, or for damage there


class Position(NamedTuple):
    """A place in the journal. Positions compare in the order of writing."""

    segment: int
    offset: int


class Writer:
    """The end of the journal that grows. Only the process that holds the spool's lock may have one."""

    def __init__(self, folder: str, *, segment_bytes: int, first: int = 1) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._number = first
        self._fd = -1
        self._offset = 0
        self._unsynced = False
        self.spliced = 0  # bytes, in all

    @property
    def position(self) -> Position:
        return Position(self._number, self._offset)

    def open(self) -> None:
        """Go on where the last writer stopped; OSError when the segment can't be opened."""
        if self._fd >= 0:
            return
        # Never one that has a later one behind it: readers do not come back from there.
        self._number = max([self._number, *segments(self._folder)])
        # Not O_APPEND: splice refuses such a file. The end is taken from the file itself, a crash may have moved it.
        self._fd, self._number = self._opened(self._number)
        self._offset = os.fstat(self._fd).st_size

    def _opened(self, number: int) -> tuple[int, int]:
        """The segment of that number, or the first one behind it whose place no folder, link or foreign file takes."""
        for candidate in range(number, number + MOST_FOREIGN):
            try:
                return open_file(segment_path(self._folder, candidate), os.O_RDWR | os.O_CREAT), candidate
            except OSError as error:
                if not isinstance(error, (PermissionError, IsADirectoryError)) and error.errno != errno.ELOOP:
                    raise
        raise PermissionError(errno.EACCES, "no segment can be made", self._folder)

    def splice(self, pipe: int, most: int) -> int:
        """Move bytes out of the pipe without their ever being in this process; 0 at the end of file.

        Raises BlockingIOError when the pipe is empty, OSError when the disk does not take them: they stay in the pipe.
        """
        self.open()
        moved = _move(pipe, self._fd, most, self._offset)
        self._offset += moved
        self.spliced += moved
        self._unsynced = self._unsynced or moved > 0
        return moved

    def ends_whole(self) -> bool:
        """Whether the journal ends at a frame's border, and not in a frame whose rest is still in the pipe."""
        return not self.unfinished()

    def unfinished(self) -> bytes:
        """The beginning of a frame with which the journal ends."""
        self.open()
        tail = os.pread(self._fd, _TAIL, max(0, self._offset - _TAIL))
        return tail[frame.scan(tail).consumed :]

    def append(self, data: bytes) -> int:
        """Write whole frames that came another way, at a frame's border; how many bytes of them the disk took, OSError
        when none. Those stay: readers may have come to them already."""
        self.open()
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self._offset + written)
        except OSError:
            written = frame.scan(data[:written], growing=True).consumed
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._offset + written)
            if not written:
                raise
        self._offset += written
        self._unsynced = True
        return written

    @property
    def is_full(self) -> bool:
        return self._offset >= self._segment_bytes

    def rotate_if_due(self) -> bool:
        """Begin the next segment when this one is full, and when there can be one. Only at a frame's border."""
        if not self.is_full:
            return False
        self.sync()
        try:
            fd, number = self._opened(self._number + 1)
        except OSError:  # no inode, no descriptor: rather a large segment than none
            if os.path.lexists(segment_path(self._folder, self._number + 1)):
                self.close()
            return False
        self.close()
        self._fd, self._number = fd, number
        self._offset = os.fstat(fd).st_size
        return True

    def move_on(self) -> None:
        """Begin the next segment because this one can't grow any more, and take half a frame at its end along.

        OSError when there can be none, or this one holds nothing whole.
        """
        tail = os.pread(self._fd, _TAIL, max(0, self._offset - _TAIL))
        half = tail[frame.scan(tail).consumed :]
        if len(half) >= self._offset:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._folder)
        beside = os.path.join(self._folder, "next")
        fd = open_file(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            if os.write(fd, half) != len(half):
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), beside)
            number = self._free_number()
            # Seen by readers at once, and from then on it is written to: they do not come back from there.
            os.rename(beside, segment_path(self._folder, number))
        except OSError:
            os.close(fd)
            raise
        # A crash before it, or a failure, leaves the half behind as well, which costs nobody's event.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._offset - len(half))
        self.close()
        self._fd, self._number, self._offset = fd, number, len(half)

    def _free_number(self) -> int:
        """Of the next segment whose place nothing takes."""
        number = self._number + 1
        while os.path.lexists(segment_path(self._folder, number)):
            number += 1
        return number

    def sync(self) -> None:
        if self._unsynced and self._fd >= 0:
            os.fsync(self._fd)
            self._unsynced = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


if hasattr(os, "splice"):

    def _move(pipe: int, file: int, most: int, offset: int) -> int:
        return os.splice(pipe, file, most, offset_dst=offset, flags=os.SPLICE_F_NONBLOCK)

else:

    def _move(pipe: int, file: int, most: int, offset: int) -> int:
        # A SIGKILL between the two calls loses what was read; that is what a system without splice costs.
        data = os.read(pipe, most)
        written = 0
        while written < len(data):
            written += os.pwrite(file, data[written:], offset + written)
        return written


class Frames(NamedTuple):
    """A stretch of one segment that was read: `buffer` begins at `offset` of `segment`."""

    segment: int
    offset: int
    buffer: bytes
    scan: frame.Scan


class Reader:
    """Goes through the frames from a position on, over damage and missing segments."""

    def __init__(self, folder: str, position: Position, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._fd = -1
        self._known: list[int] = []  # segments, as last seen ...
        self._changed = -1  # ... when the folder had changed at this time; -1: it is to be looked at again
        self._half: tuple[Position, float] | None = None  # an unfinished frame at the end, and since when
        self.is_at_end = False  # the last read found nothing, and only half a frame, whose rest will not come, is left
        self.position = position

    def clamp(self) -> None:
        """Come back to the end of a segment that was cut shorter than our position, so that what follows is seen."""
        size = 0  # of a segment that is gone: its number may be used again
        with contextlib.suppress(OSError):
            size = os.stat(segment_path(self._folder, self.position.segment)).st_size
        self.position = Position(self.position.segment, min(self.position.offset, size))

    def read(self, *, ended: bool = False) -> Frames | None:
        """The next stretch with something in it, or None at the end of what is written. When that has `ended`, and is
        not only as far as somebody has come, half a frame there is damage.

        OSError when a segment can't be opened for want of something (descriptors, memory): nothing is passed over.
        """
        while True:
            stretch = self._stretch(complete=ended)
            if stretch is not None or (later := self._later()) is None:
                return stretch
            # Once more: only now is the segment certain to be complete when its end is seen.
            stretch = self._stretch(complete=True)
            if stretch is not None:
                return stretch
            self.skip_to(later)

    def _stretch(self, *, complete: bool) -> Frames | None:
        buffer = self._chunk()
        complete = complete and len(buffer) < CHUNK
        growing = not complete and (len(buffer) == CHUNK or not self._is_stuck(buffer))
        found = frame.scan(buffer, complete=complete, growing=growing)
        if growing:
            found = _unsettled_left(found, full=len(buffer) == CHUNK)
        self.is_at_end = not found.consumed and not (buffer and growing)
        if not found.consumed:
            return None
        stretch = Frames(*self.position, buffer, found)
        self.position = Position(self.position.segment, self.position.offset + found.consumed)
        return stretch

    def _is_stuck(self, buffer: bytes) -> bool:
        """Whether the journal has begun with the same unfinished frame for a while: then its rest will not come."""
        if not buffer:
            self._half = None
        elif self._half is None or self._half[0] != self.position:
            self._half = (self.position, self._clock())
        return self._half is not None and self._clock() - self._half[1] >= HALF_FRAME

    def end(self) -> Position:
        """Where the journal ends now."""
        numbers = segments(self._folder)
        last = max([self.position.segment, *numbers])
        try:
            return max(self.position, Position(last, os.stat(segment_path(self._folder, last)).st_size))
        except OSError:
            return self.position

    def unread(self) -> int:
        """Bytes of the journal behind our position."""
        total = -self.position.offset
        for number in segments(self._folder):
            if number >= self.position.segment:
                with contextlib.suppress(OSError):
                    total += os.stat(segment_path(self._folder, number)).st_size
        return max(0, total)

    def skip_to(self, segment: int) -> None:
        self.close()
        self.position = Position(segment, 0)

    def _later(self) -> int | None:
        if not self._known or self._known[-1] <= self.position.segment:
            self._look()
        at = bisect.bisect_right(self._known, self.position.segment)
        return self._known[at] if at < len(self._known) else None

    def _look(self) -> None:
        """See which segments there are, unless the folder is as it was."""
        changed = os.stat(self._folder).st_mtime_ns
        if changed == self._changed:
            return
        self._known = segments(self._folder)
        # Of a change just now, the next one may bear the same time.
        self._changed = changed if time.time_ns() - changed > _SETTLED else -1

    def _chunk(self) -> bytes:
        if self._fd < 0:
            try:
                self._fd = open_file(segment_path(self._folder, self.position.segment), os.O_RDONLY)
            except OSError as error:
                if error.errno in NO_RESOURCES:
                    raise
                return b""  # missing or foreign
        try:
            return os.pread(self._fd, CHUNK, self.position.offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # A block that the disk can't read: as good as damaged, and what follows it counts.
            return b"\0" * (_BLOCK - self.position.offset % _BLOCK)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _unsettled_left(found: frame.Scan, *, full: bool) -> frame.Scan:
    """What was found, without damage behind which nothing good has come yet: who reads while the end is just being
    written, or half a frame cut off there, may see zeros in its place. A chunk that is full of it is passed over."""
    if not found.damage or found.damage[-1][1] < found.consumed:
        return found
    start = found.damage[-1][0]
    if full and not start:
        return found
    return frame.Scan(found.frames, found.damage[:-1], start)


def rescue(pipe: int, folder: str, *, first: int = 1) -> None:
    """Put what is in the pipe into the journal, before the last process lets go of it. Only with the spool's lock."""
    writer = Writer(folder, segment_bytes=1 << 62, first=first)
    with contextlib.suppress(OSError):  # BlockingIOError when it is empty
        while writer.splice(pipe, 1 << 22):
            pass
    writer.close()


def release(folder: str, before: int) -> int:
    """Delete the segments that every cursor has passed; how many. What can't be deleted is tried again next time."""
    deleted = 0
    for number in segments(folder)[:-1]:
        if number < before:
            with contextlib.suppress(OSError):
                os.unlink(segment_path(folder, number))
                deleted += 1
    return deleted


def punch(folder: str, before: Position) -> None:
    """Give back the room that is taken, in the segment that still grows, by what every cursor has passed: there is no
    other room on a disk that is full. It reads as zeros. OSError where the file system can't."""
    stop = before.offset - before.offset % mmap.ALLOCATIONGRANULARITY
    if not stop:
        return
    fd = open_file(segment_path(folder, before.segment), os.O_RDWR)
    try:
        with mmap.mmap(fd, stop) as passed:
            passed.madvise(mmap.MADV_REMOVE)
    except (ValueError, AttributeError) as error:  # shorter by now, or not on this system
        raise OSError(errno.EINVAL, str(error)) from error
    finally:
        os.close(fd)
