"""The events of the journal that one reader has in hand: frames in, whole events out, in order, until they settle."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..event.model import MAX_EVENT, EventId
from ..transport import frame
from ..transport.shared_file import process_is_gone
from .writer import Frames, Position, Reader

MOST = 16_384  # entries that one window may hold
_BEFORE_PAYLOAD = frame.HEADER.size
MOST_PARTS = MAX_EVENT // frame.MAX_PAYLOAD + 2
DEAD_WRITER = 5.0  # seconds for the rest of a killed writer's event to turn up, out of its overflow too
SLOW_WRITER = 300.0  # seconds that a living but stopped writer may take between two frames of an event

DELIVERED, FILTERED, DEAD = "delivered", "filtered", "dead"
INCOMPLETE, QUOTA = "incomplete", "quota"
LOST = (INCOMPLETE, QUOTA)

Elsewhere = Callable[[Position, int], bool]
"""Whether the event that begins at this place, of this level, is another window's to deliver and to count."""


class Entry:
    """One event in a cursor's hand. ``outcome`` is None until it is settled."""

    __slots__ = (
        "attempts",
        "failing_since",
        "id",
        "level",
        "not_before",
        "outcome",
        "passed_then",
        "payload",
        "pid",
        "start",
        "weight",
    )

    def __init__(self, start: Position, id: EventId, level: int, pid: int, payload: bytes | None) -> None:
        self.start = start
        self.id = id
        self.level = level
        self.pid = pid
        self.payload = payload  # None while parts of it are missing
        self.outcome: str | None = None
        self.weight = 1
        self.attempts = 0
        self.not_before = 0.0
        self.failing_since: float | None = None
        self.passed_then = 0


class _Parts:
    """The frames of an unfinished event."""

    __slots__ = ("entry", "pieces", "seen", "total", "until")

    def __init__(self, entry: Entry, total: int, now: float) -> None:
        self.entry = entry
        self.total = total
        self.pieces: dict[int, bytes] = {}
        self.seen = now
        self.until: Position | None = None  # the journal's end when patience ended: given up once that was read


class Window:
    """What was read of the journal from a place on, and is not counted yet: `position` is where the first of it begins.

    Events below ``level`` settle at once as filtered; those that are ``elsewhere`` are passed over.
    """

    def __init__(
        self,
        folder: str,
        position: Position,
        *,
        level: int = 0,
        elsewhere: Elsewhere | None = None,
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[int], bool] = process_is_gone,
    ) -> None:
        self.elsewhere = elsewhere
        self.nobody_writes = False  # nobody is left who could finish an event
        self.held_up_at = float("-inf")  # when the rest of an event could last not get into the journal
        self.urgent = False  # a mark was read: somebody waits for what stands before it
        self._level = level
        self._clock = clock
        self._gone = gone
        self._entries: deque[Entry] = deque()
        self._unfinished: dict[EventId, _Parts] = {}
        self._adopted: dict[EventId, Entry] = {}
        self._views: deque[frame.FrameView] = deque()  # read, not taken yet
        self._stretch: Frames
        self._next = -1  # where the first of them begins, damage before it included; -1: there is none
        self._reader = Reader(folder, position, clock=clock)
        self._reader.clamp()

    @property
    def position(self) -> Position:
        """Everything before it is settled and counted."""
        return self._entries[0].start if self._entries else self.position_read

    @property
    def position_read(self) -> Position:
        """How far events were taken, settled or not."""
        return self._reader.position if self._next < 0 else Position(self._stretch.segment, self._next)

    @property
    def reached(self) -> Position:
        """Where the next frame begins, behind damage too."""
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

    def read(self, most: int, max_bytes: int, until: Position | None = None) -> list[Entry]:
        """The next events to deliver, at most so many and about so many bytes, that begin before ``until``.

        OSError when there are none because the journal can't be read now.
        """
        entries: list[Entry] = []
        try:
            self._read(entries, most, max_bytes, until)
        except OSError:
            if not entries:  # they are taken, and nobody else has them
                raise
        return entries

    def _read(self, entries: list[Entry], most: int, max_bytes: int, until: Position | None) -> None:
        size = 0
        if self._unfinished:
            self._give_up_unfinished()
        while len(entries) < most and size < max_bytes and (len(self._entries) < MOST or self._has_room()):
            if not self._views and not self._look_ahead():
                self._give_up_unfinished(at_the_end=True)
                break
            if until is not None and not self._is_before(until):
                break
            entry = self._take(self._views.popleft())
            if entry is not None:
                entries.append(entry)
                size += len(entry.payload or b"")

    def _is_before(self, until: Position) -> bool:
        """Whether the next frame begins before it: `reached` < ``until``, once for every event."""
        stretch = self._stretch
        if stretch.segment != until.segment:
            return stretch.segment < until.segment
        return stretch.offset + self._views[0].start < until.offset

    def _has_room(self) -> bool:
        """Whether a full window takes another entry, once what is settled behind an unfinished event is made small."""
        if self._unfinished:
            self._entries = _compact(self._entries)
        return len(self._entries) < MOST * 3 // 4

    def _look_ahead(self) -> bool:
        self._next = -1
        while not self._views:
            stretch = self._reader.read()
            if stretch is None:
                return False
            self._views.extend(stretch.scan.frames)
            self._stretch = stretch
        # Damage in front of the first frame is passed together with it.
        self._next = self._stretch.offset
        return True

    def _take(self, view: frame.FrameView) -> Entry | None:
        """One frame; the event, when this made it whole and it is ours to deliver."""
        segment, offset, buffer, _ = self._stretch
        begin, end, flags, level, part, parts, token, seq, pid = view
        self._next = offset + end if self._views else -1
        if flags:
            self.urgent = self.urgent or flags == frame.MARK
            return None
        start = Position(segment, offset + begin)
        if self.elsewhere is not None and self.elsewhere(start, level):
            return None
        if level < self._level:
            self._filter(start, view)
            return None
        id = EventId(token, seq)
        if self._adopted and id in self._adopted and not part:
            self._take_over(self._adopted.pop(id), start)
            return None
        payload = buffer[begin + _BEFORE_PAYLOAD : end]
        if parts > 1:
            return self._take_part(start, id, view, payload)
        entry = Entry(start, id, level, pid, payload)
        self._entries.append(entry)
        return entry

    def _filter(self, start: Position, view: frame.FrameView) -> None:
        if view.part:
            return
        last = self._entries[-1] if self._entries else None
        if last is not None and last.outcome == FILTERED:
            last.weight += 1
            return
        entry = Entry(start, EventId(view.token, view.seq), view.level, view.pid, b"")
        entry.outcome = FILTERED
        self._entries.append(entry)

    def _take_part(self, start: Position, id: EventId, view: frame.FrameView, payload: bytes) -> Entry | None:
        """One frame of several; the event, when this was the last that was missing."""
        parts = self._unfinished.get(id)
        if parts is None:
            if view.part:  # its beginning was damaged, or came before: nothing to add it to
                return None
            entry = Entry(start, id, view.level, view.pid, None)
            parts = self._unfinished[id] = _Parts(entry, view.parts, self._clock())
            self._entries.append(entry)  # holds the place: the position does not pass an event's first frame
            if view.parts > MOST_PARTS:  # none of ours: no event is that large
                self._give_up(id)
                return None
        elif not view.part:  # its writer was killed while it emptied its overflow
            parts.entry.weight += 1
        if view.parts != parts.total:
            return None
        parts.pieces[view.part] = payload
        parts.seen = self._clock()
        if len(parts.pieces) < parts.total:
            return None
        del self._unfinished[id]
        parts.entry.payload = b"".join(parts.pieces[i] for i in range(parts.total))
        return parts.entry

    def _give_up_unfinished(self, *, at_the_end: bool = False) -> None:
        """The rest of an event whose writer is gone, or stopped for long, will not come behind the journal's end. While
        a disk is full it may: that of a dead writer is in the pipe, then, in a trail or in an overflow."""
        now = self._clock()
        for id, parts in list(self._unfinished.items()):
            is_moving = now - self.held_up_at >= DEAD_WRITER
            patience = DEAD_WRITER if is_moving and self._gone(parts.entry.pid) else SLOW_WRITER
            if self.nobody_writes:
                patience = 0.0
            if now - parts.seen < patience:
                continue
            if parts.until is None:
                parts.until = self._reader.end()
            if at_the_end or self.position_read >= parts.until:
                self._give_up(id)

    def _give_up(self, id: EventId) -> None:
        settle(self._unfinished.pop(id).entry, INCOMPLETE)

    def _take_over(self, entry: Entry, start: Position) -> None:
        entry.start = start
        self._entries.append(entry)

    def adopt(self, entries: Iterable[Entry]) -> None:
        """When these events are come to, they are in somebody's hand, or settled, already: they only take their place
        here."""
        self._adopted = {entry.id: entry for entry in entries}

    def whole(self) -> list[Entry]:
        """The events that are all there, settled or not."""
        return [entry for entry in self._entries if entry.payload is not None]

    def settled(self) -> Iterator[Entry]:
        """Take out what is settled without a gap; `position` goes on."""
        entries = self._entries
        while entries and entries[0].outcome is not None:
            yield entries.popleft()

    def skip_to(self, segment: int) -> None:
        """Settle what stands before the segment, and is not settled, as lost to the quota."""
        while self.position_read.segment < segment:
            if self._views:
                self._take(self._views.popleft())
            elif not self._look_ahead():  # what it finds may belong to the segment that stays
                break
        self._unfinished = {id: parts for id, parts in self._unfinished.items() if parts.entry.start.segment >= segment}
        for entry in self._entries:
            if entry.outcome is None and entry.start.segment < segment:
                settle(entry, QUOTA)

    def close(self) -> None:
        self._reader.close()


def settle(entry: Entry, outcome: str) -> None:
    """Say what became of an event: DELIVERED, FILTERED, DEAD, INCOMPLETE or QUOTA."""
    entry.outcome = outcome
    entry.payload = b""


def _compact(window: deque[Entry]) -> deque[Entry]:
    """The same window with settled neighbours of one outcome as one entry, but lost ones: their levels are counted."""
    compact: deque[Entry] = deque()
    for entry in window:
        last = compact[-1] if compact else None
        is_alike = last is not None and entry.outcome not in (None, *LOST) and entry.outcome == last.outcome
        if last is not None and is_alike:
            last.weight += entry.weight
        else:
            compact.append(entry)
    return compact
