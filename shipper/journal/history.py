"""Reads what was journaled, delivered or not: kept segments, then the journal, as one sequence.

Protects from: nothing by itself; `shipper tail`, `shipper replay` and death notices look back with it. It takes no
lock and writes nothing, so it can neither delay nor change what the shipper process does. It meets retention, which
moves a segment from the journal to the kept ones while it is read, and cleaners, which remove the folder.

Invariants: each event is returned once, when its last frame was read and in the order of the journal, even if it was
journaled twice because a process was killed. A segment that is moved while it is read is neither left out nor read
twice.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..event.model import EventId
from ..spool.files import open_file
from ..transport import frame
from .reader import Frames, Reader
from .segments import Position, segment_path, segment_size, segments
from .sequences import ExactTracker, SequenceTracker

HALF_FRAME_SECONDS = 60.0  # for the rest of a frame: it may be in the pipe until another shipper process has started
MAX_UNFINISHED = 1000  # remembered events whose frames have not all come


class Recorded(NamedTuple):
    """An event as it was journaled; ``start`` is the place of its first frame."""

    start: Position
    id: EventId
    level: int
    payload: bytes


class HistoryReader(Reader):
    """Reads the frames of kept segments and of the journal, beginning at ``position``."""

    half_frame_seconds = HALF_FRAME_SECONDS

    def __init__(
        self, journal: str, kept: str, position: Position, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(journal, position, clock=clock)
        self._kept = kept

    def _list(self) -> list[int]:
        return recorded_segments(self._folder, self._kept)

    def _open(self, number: int) -> int:
        # In neither: raise the error, unless the segment has been made in the journal meanwhile.
        for folder in (self._folder, self._kept):
            with contextlib.suppress(FileNotFoundError):
                return open_file(segment_path(folder, number), os.O_RDONLY)
        return open_file(segment_path(self._folder, number), os.O_RDONLY)

    def size(self, number: int) -> int:
        """Return the bytes of a segment, in whichever of the two folders it is."""
        return max(segment_size(folder, number) for folder in (self._folder, self._kept))


def recorded_segments(journal: str, kept: str) -> list[int]:
    """The numbers of all segments, kept or not, oldest first; none when there is no journal yet."""
    found: set[int] = set()
    for folder in (journal, kept):  # in this order: one that is moved meanwhile is found twice rather than never
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.update(segments(folder))
    return sorted(found)


def first_since(journal: str, kept: str, since: float) -> int:
    """Return the number of the first segment that may have events of ``since`` (seconds since the epoch) or later.

    A segment that was kept before that time has earlier events only.
    """
    numbers = recorded_segments(journal, kept)
    for number in numbers:
        path = segment_path(kept, number)
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime < since:
                continue
        return number
    return numbers[-1] if numbers else 1


class History:
    """Reads the events of at least ``level`` that begin in the segment ``first`` or later."""

    def __init__(
        self,
        journal: str,
        kept: str,
        first: int = 1,
        *,
        level: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._reader = HistoryReader(journal, kept, Position(first, 0), clock=clock)
        self._level = level
        self._seen: dict[bytes, SequenceTracker] = {}
        self._unfinished: dict[EventId, tuple[Position, dict[int, bytes]]] = {}

    @property
    def end(self) -> Position:
        """Where the journal ends now."""
        return self._reader.end()

    def read(self, *, until: Position | None = None, follow: bool = False) -> Iterator[Recorded]:
        """Yield the events up to the journal's end, or those that begin before ``until``.

        With ``follow``, half a frame at the end is waited for: call it again for more events. OSError when a segment
        can't be opened for want of descriptors or memory.
        """
        if follow:
            self._begin_again_if_removed()
        while (stretch := self._next(ended=not follow)) is not None:
            for view in stretch.scan.frames:
                if until is not None and Position(stretch.segment, stretch.offset + view.start) >= until:
                    return
                found = self._take(view, stretch)
                if found is not None:
                    yield found

    def _next(self, *, ended: bool) -> Frames | None:
        try:
            return self._reader.read(ended=ended)
        except (FileNotFoundError, NotADirectoryError):  # there is no journal yet, or none any more
            return None

    def _begin_again_if_removed(self) -> None:
        """Begin with the first segment when the folder was removed, and made again by a new spool."""
        position = self._reader.position
        with contextlib.suppress(OSError):
            there = segments(self._journal)
            if there and (there[-1] < position.segment or self._reader.size(position.segment) < position.offset):
                self._reader.skip_to(there[0])

    def _take(self, view: frame.FrameView, stretch: Frames) -> Recorded | None:
        if view.flags:
            return None
        id = EventId(view.token, view.seq)
        if view.part == 0 and not self._is_wanted(view):
            return None
        payload = stretch.buffer[view.payload_start : view.end]
        start = Position(stretch.segment, stretch.offset + view.start)
        return Recorded(start, id, view.level, payload) if view.parts == 1 else self._add(start, id, view, payload)

    def _is_wanted(self, view: frame.FrameView) -> bool:
        tracker = self._seen.get(view.token)
        if tracker is None:
            tracker = self._seen[view.token] = ExactTracker(view.pid)
        return tracker.add(view.seq) and view.level >= self._level

    def _add(self, start: Position, id: EventId, view: frame.FrameView, payload: bytes) -> Recorded | None:
        if view.part == 0:
            self._unfinished[id] = (start, {})
            if len(self._unfinished) > MAX_UNFINISHED:
                del self._unfinished[next(iter(self._unfinished))]
        if id not in self._unfinished:
            return None
        start, parts = self._unfinished[id]
        parts[view.part] = payload
        if len(parts) < view.parts:
            return None
        del self._unfinished[id]
        return Recorded(start, id, view.level, b"".join(parts[each] for each in sorted(parts)))

    def close(self) -> None:
        self._reader.close()
