"""Reads events in order, beginning at a place in the journal, and holds them until they are settled.

Invariants: `Window.position` never passes the first frame of an event that is not settled. Every event whose first
frame is read here, and which is this window's, becomes one entry and is settled once. The window that takes an event's
first frame takes all of them.

A `Cursor` has one window, and a second one while it has an express lane (see `lanes`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ...event.model import EventId
from ...transport import frame
from ...transport.memory.shared_file import process_is_gone
from ..entry import FILTERED, QUOTA, Entry, compact, settle
from ..reader import Frames, Reader
from ..segments import Position
from .assembler import Assembler

MAX_ENTRIES = 16_384  # that one window may hold
_HEADER = frame.HEADER.size


class Lane(Protocol):
    """Decides which events a window leaves to another one."""

    def belongs_to_other_lane(self, start: Position, level: int) -> bool:
        """Whether another window delivers and counts the event of this ``level`` that begins at ``start``."""


class Window:
    """Reads entries, beginning at ``position``. Events below ``level`` settle at once as filtered."""

    def __init__(
        self,
        folder: str,
        position: Position,
        lane: Lane | None = None,
        *,
        level: int = 0,
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[int], bool] = process_is_gone,
    ) -> None:
        self.urgent = False  # a mark was read: a flush waits for what stands before it
        self.assembler = Assembler(clock=clock, gone=gone)
        self._lane = lane
        self._level = level
        self._entries: deque[Entry] = deque()
        self._known: dict[Position, Entry] = {}  # entries taken over from another window, by place, not reached yet
        self._views: deque[frame.FrameView] = deque()  # frames of `_stretch` that are not taken yet
        self._stretch: Frames
        self._next = -1  # offset where the first of them begins, or damage before it; -1: there is none
        self._reader = Reader(folder, position, clock=clock)
        self._reader.clamp()

    @property
    def position(self) -> Position:
        """Everything before it is settled and counted."""
        return self._entries[0].start if self._entries else self.position_read

    @property
    def position_read(self) -> Position:
        """The place up to which all events were taken, settled or not."""
        return self._reader.position if self._next < 0 else Position(self._stretch.segment, self._next)

    @property
    def reached(self) -> Position:
        """Where the next frame begins, behind any damage."""
        if not self._views:
            return self._reader.position
        return Position(self._stretch.segment, self._stretch.offset + self._views[0].start)

    @property
    def end(self) -> Position:
        """Where the journal ends now."""
        return self._reader.end()

    @property
    def unread(self) -> int:
        """About how many bytes of the journal are still to be read."""
        return self._reader.unread()

    @property
    def has_more(self) -> bool:
        """Whether frames are still to be read or taken, or a whole event is not settled."""
        if self._views or self._reader.unread() >= frame.MAX_FRAME:
            return True
        return any(entry.outcome is None and entry.payload is not None for entry in self._entries)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """Whether an event or a frame at the journal's end is not whole: it is given up after some time."""
        return bool(self.assembler) or not self._reader.is_at_end

    def read(self, most: int, max_bytes: int, until: Position | None = None) -> list[Entry]:
        """Return the next events to deliver that begin before ``until``: at most ``most``, about ``max_bytes`` bytes.

        OSError when there are none because the journal can't be read now.
        """
        entries: list[Entry] = []
        try:
            self._read(entries, most, max_bytes, until)
        except OSError:
            if not entries:  # else they are returned: they would not be read again
                raise
        return entries

    def _read(self, entries: list[Entry], most: int, max_bytes: int, until: Position | None) -> None:
        size = 0
        if self.assembler:
            self.assembler.give_up_overdue(self.position_read, self._reader.end)
        while len(entries) < most and size < max_bytes and (len(self._entries) < MAX_ENTRIES or self._make_space()):
            if not self._views and not self._look_ahead():
                self.assembler.give_up_overdue(self.position_read, self._reader.end, at_end=True)
                break
            if until is not None and not self._is_before(until):
                break
            entry = self._take(self._views.popleft())
            if entry is not None:
                entries.append(entry)
                size += len(entry.payload or b"")

    def _is_before(self, until: Position) -> bool:
        """`reached` < ``until``, without a new object for each event."""
        stretch = self._stretch
        if stretch.segment != until.segment:
            return stretch.segment < until.segment
        return stretch.offset + self._views[0].start < until.offset

    def _make_space(self) -> bool:
        """Compact a full window; return whether that has made space.

        In a full window, an unfinished event keeps the settled ones after it from being counted.
        """
        if self.assembler:
            self._entries = compact(self._entries)
        return len(self._entries) < MAX_ENTRIES * 3 // 4

    def _look_ahead(self) -> bool:
        self._next = -1
        while not self._views:
            stretch = self._reader.read()
            if stretch is None:
                return False
            self._views.extend(stretch.scan.frames)
            self._stretch = stretch
        # The position passes damage before the first frame together with that frame.
        self._next = self._stretch.offset
        return True

    def _take(self, view: frame.FrameView) -> Entry | None:
        """Take one frame. Return its event if that is whole now, and for this window to deliver."""
        segment, offset, buffer, _ = self._stretch
        begin, end, flags, level, part, parts, token, seq, pid = view
        self._next = offset + end if self._views else -1
        if flags:
            self.urgent = self.urgent or flags == frame.MARK
            return None
        if part:  # the event is this window's if its first frame was, wherever this frame is
            if not self.assembler:
                return None
            return self.assembler.add(EventId(token, seq), part, parts, buffer[begin + _HEADER : end])
        start = Position(segment, offset + begin)
        if self._lane is not None and self._lane.belongs_to_other_lane(start, level):
            return None
        if level < self._level:
            self._filter(start, view)
            return None
        if self._known and (known := self._known.pop(start, None)) is not None:
            self._entries.append(known)
            return None
        payload = buffer[begin + _HEADER : end]
        if parts > 1:
            self._begin(Entry(start, EventId(token, seq), level, pid, None), parts, payload)
            return None
        entry = Entry(start, EventId(token, seq), level, pid, payload)
        self._entries.append(entry)
        return entry

    def _begin(self, entry: Entry, parts: int, payload: bytes) -> None:
        if entry.id not in self.assembler:
            self._entries.append(entry)  # holds the place: the position does not pass an event's first frame
        self.assembler.begin(entry, parts, payload)

    def _filter(self, start: Position, view: frame.FrameView) -> None:
        last = self._entries[-1] if self._entries else None
        if last is not None and last.outcome == FILTERED:
            last.weight += 1
            return
        entry = Entry(start, EventId(view.token, view.seq), view.level, view.pid, b"")
        entry.outcome = FILTERED
        self._entries.append(entry)

    # -- settling ----------------------------------------------------------------------------------------------------

    def settled(self) -> Iterator[Entry]:
        """Yield and remove the settled entries up to the first that is not settled; `position` moves on."""
        entries = self._entries
        while entries and entries[0].outcome is not None:
            yield entries.popleft()

    def skip_to(self, segment: int) -> None:
        """Settle all unsettled events that begin before ``segment`` as lost to the quota."""
        while self.position_read.segment < segment:
            if self._views:
                self._take(self._views.popleft())
            elif not self._look_ahead():  # the frames found may be in the segment that stays
                break
        self.assembler.forget_before(segment)
        for entry in self._entries:
            if entry.outcome is None and entry.start.segment < segment:
                settle(entry, QUOTA)

    # -- another process's part --------------------------------------------------------------------------------------

    def take_sendable(self) -> list[Entry]:
        """Return the unsettled events up to the first that is not whole, in order.

        An event is returned by each call until it is settled.
        """
        found: list[Entry] = []
        for entry in self._entries:
            if entry.payload is None or entry.outcome not in (None, FILTERED):
                break
            if entry.outcome is None:
                found.append(entry)
        return found

    def rewind(self) -> bool:
        """Forget what was read and not taken. Return False, and do nothing, unless all that was taken is settled."""
        if self._entries or self._known or self.assembler:
            return False
        self.move_to(self.position_read)
        return True

    def move_to(self, position: Position) -> None:
        """Continue at a place where an event begins and before which all is settled. Call it only after `rewind`."""
        self._views.clear()
        self._next = -1
        self._reader.move_to(position)

    # -- the end of another window -----------------------------------------------------------------------------------

    def whole(self) -> list[Entry]:
        """The events of which all frames are there, settled or not."""
        return [entry for entry in self._entries if entry.payload is not None]

    def take_over(self, entries: Iterable[Entry]) -> None:
        """Use the entries of another window, each at its place in the journal, instead of making new ones.

        The deliverer may hold them at this moment, or have settled them.
        """
        self._known = {entry.start: entry for entry in entries}

    def close(self) -> None:
        self._reader.close()
