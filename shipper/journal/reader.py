"""Reads the frames of the journal from a position, across damage and missing segments.

Invariants: a read never passes a frame that may still become whole; a stretch never spans two segments; a segment that
can't be opened for want of descriptors or memory is an error and is not passed over. Damage is bytes that are no whole,
valid frame: inside a segment always, at the journal's end once they have stood there for `HALF_FRAME_SECONDS`.

Readers write nothing. Each `Window`, `Account` and `History` has one.
"""

from __future__ import annotations

import bisect
import errno
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from ..spool.files import open_file
from ..transport import frame
from ..transport.memory.shared_file import NO_RESOURCES
from .segments import Position, segment_path, segment_size, segments

CHUNK = 256 * 1024  # bytes of one read
HALF_FRAME_SECONDS = 1.0  # after which an unfinished or invalid frame at the journal's end is damage
_BLOCK = 4096  # bytes that are passed over when the disk can't read them
SETTLED_NANOSECONDS = 2_000_000_000  # after this time, a folder's next change certainly changes its modification time


class Frames(NamedTuple):
    """A stretch of one segment that was read: `buffer` begins at `offset` of `segment`, `scan` says what is in it."""

    segment: int
    offset: int
    buffer: bytes
    scan: frame.Scan


class Reader:
    """Reads the frames of the journal in ``folder``, beginning at ``position``."""

    half_frame_seconds = HALF_FRAME_SECONDS

    def __init__(self, folder: str, position: Position, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._fd = -1
        self._known: list[int] = []  # the segments when the folder was last listed
        self._changed = -1  # the folder's modification time then; -1: list it again
        self._half: tuple[Position, float] | None = None  # an unfinished frame at the end, and when it was first seen
        self.is_at_end = False  # the last read found nothing more, or only half a frame whose rest will not come
        self.position = position

    def clamp(self) -> None:
        """Go back to the segment's end if the position is beyond it, after a power cut: the next frames will be there.

        A segment that is gone counts as empty; its number may be used again.
        """
        size = segment_size(self._folder, self.position.segment)
        self.position = Position(self.position.segment, min(self.position.offset, size))

    def read(self, *, ended: bool = False) -> Frames | None:
        """Return the next stretch with frames or damage in it, or None at the journal's end.

        With ``ended`` nothing more will be written, and half a frame at the end is damage at once. OSError when a
        segment can't be opened for want of descriptors or memory: nothing is passed over.
        """
        while True:
            stretch = self._stretch(complete=ended)
            if stretch is not None or (later := self._later()) is None:
                return stretch
            # Read again: only now that there is a later segment, nothing more can be added to this one.
            stretch = self._stretch(complete=True)
            if stretch is not None:
                return stretch
            self.skip_to(later)

    def _stretch(self, *, complete: bool) -> Frames | None:
        buffer = self._chunk()
        while True:
            stretch = self._scanned(buffer, complete=complete)
            if stretch is None or not stretch.scan.damage:
                break
            # A read is no snapshot: the writer may have cut off half a frame meanwhile, and gone on.
            again = self._chunk()
            if again[: len(buffer)] == buffer:
                break
            buffer = again
        if stretch is not None:
            self.position = Position(self.position.segment, self.position.offset + stretch.scan.consumed)
        return stretch

    def _scanned(self, buffer: bytes, *, complete: bool) -> Frames | None:
        complete = complete and len(buffer) < CHUNK
        growing = not complete and (len(buffer) == CHUNK or not self._is_stuck(buffer))
        found = frame.scan(buffer, complete=complete, growing=growing)
        if growing:
            found = _unsettled_left(found, full=len(buffer) == CHUNK)
        self.is_at_end = not found.consumed and not (buffer and growing)
        if not found.consumed:
            return None
        return Frames(*self.position, buffer, found)

    def _is_stuck(self, buffer: bytes) -> bool:
        """Whether the same unfinished frame was at the journal's end for `half_frame_seconds`: it stays unfinished."""
        if not buffer:
            self._half = None
        elif self._half is None or self._half[0] != self.position:
            self._half = (self.position, self._clock())
        return self._half is not None and self._clock() - self._half[1] >= self.half_frame_seconds

    def end(self) -> Position:
        """Where the journal ends now, perhaps inside a frame."""
        last = max([self.position.segment, *self._list()])
        return max(self.position, Position(last, segment_size(self._folder, last)))

    def unread(self) -> int:
        """Bytes of the journal after the position."""
        later = [number for number in segments(self._folder) if number >= self.position.segment]
        return max(0, sum(segment_size(self._folder, number) for number in later) - self.position.offset)

    def move_to(self, position: Position) -> None:
        """Continue at a place where a frame, or damage, begins."""
        if position.segment != self.position.segment:
            self.close()
        self.position = position

    def skip_to(self, segment: int) -> None:
        self.close()
        self.position = Position(segment, 0)

    def _later(self) -> int | None:
        if not self._known or self._known[-1] <= self.position.segment:
            self._look()
        at = bisect.bisect_right(self._known, self.position.segment)
        return self._known[at] if at < len(self._known) else None

    def _look(self) -> None:
        """List the segments, unless the folder is unchanged."""
        changed = os.stat(self._folder).st_mtime_ns
        if changed == self._changed:
            return
        self._known = self._list()
        # Times of files are coarse: a change soon after this one may have the same time.
        self._changed = changed if time.time_ns() - changed > SETTLED_NANOSECONDS else -1

    def _chunk(self) -> bytes:
        if self._fd < 0:
            try:
                self._fd = self._open(self.position.segment)
            except OSError as error:
                if error.errno in NO_RESOURCES:
                    raise
                return b""  # missing or foreign
        try:
            data = os.pread(self._fd, CHUNK, self.position.offset)
            if not data and self._was_restored():
                self.close()
                return self._chunk()
            return data
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            # A block that the disk can't read counts as damage; reading goes on after it.
            return b"\0" * (_BLOCK - self.position.offset % _BLOCK)

    def _list(self) -> list[int]:
        """Return the numbers of the segments that exist now."""
        return segments(self._folder)

    def _open(self, number: int) -> int:
        return open_file(segment_path(self._folder, number), os.O_RDONLY)

    def _was_restored(self) -> bool:
        """Whether a cleaner has removed the open segment, and the writer has made it again."""
        path = segment_path(self._folder, self.position.segment)
        return not os.fstat(self._fd).st_nlink and os.path.lexists(path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _unsettled_left(found: frame.Scan, *, full: bool) -> frame.Scan:
    """Return the scan without damage at its very end, which is read again later.

    While the end is being written, or half a frame is being cut off there, a reader may see zeros. Damage that fills
    the whole chunk stays in the scan, and is passed over.
    """
    if not found.damage or found.damage[-1][1] < found.consumed:
        return found
    start = found.damage[-1][0]
    if full and not start:
        return found
    return frame.Scan(found.frames, found.damage[:-1], start)


def count_events(folder: str, position: Position) -> int:
    """Return how many events begin in the journal at ``position`` or later."""
    reader = Reader(folder, position)
    count = 0
    while (stretch := reader.read()) is not None:
        count += sum(not view.part and not view.flags for view in stretch.scan.frames)
    reader.close()
    return count
