"""The main lane and the express lane: errors need not wait for a long backlog.

Invariants: an event belongs to the lane in which its first frame begins, and whoever takes its first frame takes all of
it. While there is an express lane, events of at least its level that begin at its start or later are its own;
everything else is the main lane's. Every event is one lane's, so it is delivered and counted once.

An express lane begins where the journal ends when the lane is opened. It lasts until the main lane has read up to the
first event that the express lane has not settled. From there the main lane reads alone, and takes over the entries that
the express lane still holds. The part of the journal that the express lane settled stays known (`Lanes.span`, in the
cursor file) until the main lane has settled everything before its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..entry import Entry
from ..segments import Position, bytes_between, segment_size
from .cursor_files import Span
from .window import MAX_ENTRIES, Window


class MainLane:
    """Takes every event except those in the express lane's span."""

    def __init__(self) -> None:
        self.express: Span | None = None

    def belongs_to_other_lane(self, start: Position, level: int) -> bool:
        return self.express is not None and self.express.holds(start, level)


class ExpressLane:
    """Takes the events of at least ``level``."""

    def __init__(self, level: int) -> None:
        self.level = level

    def belongs_to_other_lane(self, start: Position, level: int) -> bool:
        return level < self.level


class Lanes:
    """Reads a journal, beginning at ``position``; an express lane has settled the events in ``span``."""

    def __init__(
        self,
        folder: str,
        position: Position,
        span: Span | None,
        *,
        level: int,
        clock: Callable[[], float],
        gone: Callable[[int], bool],
    ) -> None:
        self._folder = folder
        self._level = level
        self._clock = clock
        self._gone = gone
        self._lane = MainLane()
        self._main = Window(folder, position, self._lane, level=level, clock=clock, gone=gone)
        self._express: Window | None = None
        self._is_express_turn = False
        self._is_lent = False
        # If the journal was cut since, inside the span, what is written there later is not settled.
        if span is not None and self.position < span.end and segment_size(folder, span.end.segment) >= span.end.offset:
            self._open_express(span)

    @property
    def position(self) -> Position:
        """Everything before it is settled and counted, except unsettled events of the express lane."""
        return self._main.position

    @property
    def position_read(self) -> Position:
        """The place up to which all events of the main lane were taken, settled or not."""
        return self._main.position_read

    @property
    def span(self) -> Span | None:
        """The part in which the express lane has settled and counted its events, until the main lane has passed it."""
        return self._lane.express

    @property
    def unread(self) -> int:
        """About how many bytes the main lane has still to read."""
        return self._main.unread

    @property
    def is_waiting(self) -> bool:
        """Whether an event or a frame at the journal's end is not whole, so that it has to be looked at again."""
        return any(window.is_waiting for window in self._windows)

    @property
    def urgent(self) -> bool:
        """Whether a mark was read since this was last set to False: a flush waits for the events before it."""
        return any(window.urgent for window in self._windows)

    @urgent.setter
    def urgent(self, value: bool) -> None:
        for window in self._windows:
            window.urgent = value

    @property
    def _windows(self) -> tuple[Window, ...]:
        return (self._main,) if self._express is None else (self._main, self._express)

    def set_drain_mode(self, final_to: Position | None, *, disk_blocked: bool, quota_reached: bool) -> None:
        for window in self._windows:
            window.assembler.final_to = final_to
            if disk_blocked:
                window.assembler.disk_blocked_at = self._clock()
            if quota_reached:
                window.assembler.quota_reached_at = self._clock()

    @property
    def waits_for_rest(self) -> bool:
        """Whether there are events of which not all frames have come, and everything else is settled."""
        is_held = any(window.assembler for window in self._windows)
        return is_held and not any(window.has_more for window in self._windows)

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, most: int, max_bytes: int) -> list[Entry]:
        """Return the next events to deliver: at most ``most``, about ``max_bytes`` bytes.

        OSError when the journal can't be read now and no events were read.
        """
        if self._is_lent:
            return self._read_express(self._express, most, max_bytes) if self._express is not None else []
        if self._express is None or self.span is None:
            return self._main.read(most, max_bytes)
        entries = self._read_express(self._express, most, max_bytes)
        try:
            entries += self._main.read(most - len(entries), max_bytes, self.span.end)
            if self._main.reached >= self.span.end:
                self._merge(self._express)
                entries += self._main.read(most - len(entries), max_bytes)
        except OSError:
            if not entries:  # else they are returned: they would not be read again
                raise
        return entries

    def _read_express(self, express: Window, most: int, max_bytes: int) -> list[Entry]:
        """Read at most half of ``most`` events, or of 1 every second time one: the main lane must advance too."""
        self._is_express_turn = not self._is_express_turn
        share = most // 2 if most > 1 else int(self._is_express_turn)
        entries = express.read(share, max_bytes // 2)
        self._extend_span(express)
        return entries

    # -- a part of the main lane that another process reads ----------------------------------------------------------

    def lend(self, least: int) -> tuple[Position, Position] | None:
        """Leave a part of the main lane to another process; return its start and end.

        It ends where the journal ends now, or where the express lane begins. None when it has less than ``least``
        bytes, or when events that were read are not settled. Until `take_back`, `read` reads the express lane only.
        """
        part = self._lendable(least)
        if part is None or not self._main.rewind():
            return None
        self._is_lent = True
        return part

    def has_to_lend(self, least: int) -> bool:
        """Whether a part of at least ``least`` bytes can be lent now."""
        return self._lendable(least) is not None

    def _lendable(self, least: int) -> tuple[Position, Position] | None:
        start, end = self._main.position_read, self._main.end
        if self.span is not None:
            end = min(end, self.span.start)
        is_worth_it = not self._is_lent and start < end and bytes_between(self._folder, start, end) >= least
        return (start, end) if is_worth_it else None

    def pass_lent(self, start: Position, to: Position) -> bool:
        """Pass the settled events from ``start`` up to ``to``. Return False when they were given up here meanwhile."""
        is_mine = self._is_lent and self._main.position == start
        if is_mine:
            self._main.move_to(to)
        return is_mine

    def take_back(self, until: Position | None = None) -> list[Entry]:
        """Read the main lane here again, behind what was passed; return its events that begin before ``until``."""
        self._is_lent = False
        return [] if until is None else self._main.read(MAX_ENTRIES, 1 << 40, until)

    # -- beginning and end of the express lane -----------------------------------------------------------------------

    def begin_express(self, level: int) -> None:
        """Begin an express lane for events of at least ``level`` that come from now on, unless there is one."""
        if self.span is None:
            end = self._main.end
            self._open_express(Span(end, end, max(self._level, level)))

    def _open_express(self, span: Span) -> None:
        self._lane.express = span
        lane = ExpressLane(span.level)
        self._express = Window(self._folder, span.end, lane, level=self._level, clock=self._clock, gone=self._gone)
        self._express.assembler.wait_like(self._main.assembler)

    def _extend_span(self, express: Window) -> None:
        if self._lane.express is not None:
            self._lane.express = self._lane.express._replace(end=express.position)

    def _merge(self, express: Window) -> None:
        """End the express lane: the main lane has reached its first unsettled event, and takes over its entries."""
        self._main.take_over(express.whole())
        express.close()
        self._express = None

    # -- settling ----------------------------------------------------------------------------------------------------

    def settled(self) -> Iterator[Entry]:
        """Yield and remove the settled entries of each lane up to its first that is not settled."""
        yield from self._main.settled()
        if self._express is not None:
            yield from self._express.settled()
            self._extend_span(self._express)
        elif self.span is not None and self.position >= self.span.end:
            self._lane.express = None

    def skip_to(self, segment: int) -> Iterator[Entry]:
        """Settle all unsettled events before ``segment`` as lost to the quota.

        Yield and remove the entries of the express lane that this settles.
        """
        if self._express is not None and self.span is not None:
            self._express.skip_to(segment)
            yield from self._express.settled()
            self._extend_span(self._express)
        self._main.skip_to(segment)
        if self._express is not None and self.span is not None and self._main.reached >= self.span.end:
            self._merge(self._express)

    def close(self) -> None:
        for window in self._windows:
            window.close()
