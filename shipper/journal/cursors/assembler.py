"""Puts events of several frames together.

Invariants: an event that is given up is settled as incomplete, once; it is given up only when its rest can't come any
more or was waited for long enough, and only after the journal was read up to the end that it had by then. Frames of an
event whose first frame is not here are ignored: that event is another lane's, or its first frame was damaged.
"""

from __future__ import annotations

from collections.abc import Callable

from ...event.model import MAX_EVENT, EventId
from ...transport import frame
from ..entry import INCOMPLETE, Entry, settle
from ..segments import Position

MAX_PARTS = MAX_EVENT // frame.MAX_PAYLOAD + 2
DEAD_WRITER = 5.0  # seconds for the rest of a killed writer's event to arrive, from its overflow too
SLOW_WRITER = 300.0  # seconds between two frames of an event whose writer lives, and may be stopped


class _Parts:
    """The frames of an unfinished event."""

    __slots__ = ("alone", "entry", "pieces", "seen", "total", "until")

    def __init__(self, entry: Entry, total: int, now: float) -> None:
        self.entry = entry
        self.total = total
        self.pieces: dict[int, bytes] = {}
        self.seen = now  # when the last of its frames was read
        self.alone: float | None = None  # since when its writer is known to have ended
        self.until: Position | None = None  # the journal's end when the event became overdue


class Assembler:
    """The unfinished events of one window. ``gone`` tells whether the process with a pid has ended."""

    def __init__(self, *, clock: Callable[[], float], gone: Callable[[int], bool]) -> None:
        self.final_to: Position | None = None  # no process is left that could finish events before this place
        self.disk_blocked_at = float("-inf")  # when the disk last kept the rest of an event out of the journal
        self.quota_reached_at = float("-inf")  # when the quota last did
        self._clock = clock
        self._gone = gone
        self._unfinished: dict[EventId, _Parts] = {}

    def __bool__(self) -> bool:
        return bool(self._unfinished)

    def __contains__(self, id: EventId) -> bool:
        return id in self._unfinished

    def wait_like(self, other: Assembler) -> None:
        """Take over from ``other`` what decides how long the rest of an event is waited for."""
        self.final_to = other.final_to
        self.disk_blocked_at, self.quota_reached_at = other.disk_blocked_at, other.quota_reached_at

    def begin(self, entry: Entry, parts: int, payload: bytes) -> None:
        """Take the first frame of an event of several ``parts``. An event of impossible size is given up at once.

        A first frame that comes twice, because its writer was killed while it emptied its overflow, counts twice.
        """
        if entry.id in self._unfinished:
            self._unfinished[entry.id].entry.weight += 1
        else:
            self._unfinished[entry.id] = _Parts(entry, parts, self._clock())
            if parts > MAX_PARTS:
                self._give_up(entry.id)
        self.add(entry.id, 0, parts, payload)

    def add(self, id: EventId, part: int, parts: int, payload: bytes) -> Entry | None:
        """Take a frame of an event; return the event if it is whole now."""
        unfinished = self._unfinished.get(id)
        if unfinished is None or parts != unfinished.total:
            return None
        unfinished.pieces[part] = payload
        unfinished.seen = self._clock()
        if len(unfinished.pieces) < unfinished.total:
            return None
        del self._unfinished[id]
        unfinished.entry.payload = b"".join(unfinished.pieces[each] for each in range(unfinished.total))
        return unfinished.entry

    def give_up_overdue(self, read: Position, end: Callable[[], Position], *, at_end: bool = False) -> None:
        """Settle overdue events as incomplete, once the journal was ``read`` up to where it then ended."""
        now = self._clock()
        for id, unfinished in list(self._unfinished.items()):
            if not self._is_overdue(unfinished, now):
                continue
            if unfinished.until is None:
                unfinished.until = end()
            if at_end or read >= unfinished.until:
                self._give_up(id)

    def _is_overdue(self, unfinished: _Parts, now: float) -> bool:
        """Whether the next frame of an event was waited for long enough."""
        entry = unfinished.entry
        if self.final_to is not None and entry.start < self.final_to:
            return True
        # At the quota, or on a full disk, a dead writer's frames may wait in the pipe, its mirror or its overflow.
        # At the quota, retention gives up segments in the end; on a full disk only this limit ends the wait.
        if now - self.quota_reached_at < DEAD_WRITER:
            return False
        if now - self.disk_blocked_at < DEAD_WRITER or not self._gone(entry.pid):
            unfinished.alone = None
            return now - unfinished.seen >= SLOW_WRITER
        # The dead writer's last frames may still be on their way, however long ago the ones before were read.
        unfinished.alone = now if unfinished.alone is None else unfinished.alone
        return now - max(unfinished.seen, unfinished.alone) >= DEAD_WRITER

    def _give_up(self, id: EventId) -> None:
        settle(self._unfinished.pop(id).entry, INCOMPLETE)

    def forget_before(self, segment: int) -> None:
        """Forget the events that begin before a segment; the caller settles them."""
        parts = self._unfinished
        self._unfinished = {id: each for id, each in parts.items() if each.entry.start.segment >= segment}
