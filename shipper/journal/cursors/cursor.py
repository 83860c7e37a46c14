"""A backend's place in the journal: read a batch, settle, commit.

Invariants: the position never passes an event that is not settled. Position and counts are of one moment and in one
file, replaced atomically: after any crash every event is counted exactly once, however often it was sent. What was not
saved is sent again, under the same ids.

The deliverer's thread reads and commits, the main thread gives up segments, one at a time (`Checkpoint` has a lock);
entries may be settled in other threads. `cursor_files` describes the file, `delivery/cursor.py` what a deliverer needs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping

from ...transport import frame
from ...transport.drops import Drops, level_name
from ...transport.memory.shared_file import process_is_gone
from ..entry import DELIVERED, LOST, Entry, settle
from ..reader import count_events
from ..segments import Position, segments
from .cursor_files import CursorState, Span, load_cursor
from .lanes import Lanes

BACKLOG = 16 * 1024 * 1024  # with more unread bytes, new errors take an express lane
FILE_SECONDS = 1.0  # between two checks that the file is still there
BACKLOG_SECONDS = 0.5  # between two checks of how many bytes are unread


class Cursor:
    """The cursor that is saved at ``path``, in the journal in ``folder``.

    Events below ``level`` settle at once as filtered. With more than ``backlog`` bytes to read, new errors take an
    express lane. With a missing or damaged file it begins at the first segment: events may be sent again, but none is
    left out.
    """

    def __init__(
        self,
        path: str,
        folder: str,
        *,
        level: int = 0,
        backlog: int = BACKLOG,
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[int], bool] = process_is_gone,
    ) -> None:
        self._path = path
        self._folder = folder
        self._backlog = backlog
        self._clock = clock
        self._looked_at = float("-inf")
        self._checked_at = clock()
        self._delivered = 0  # events that were delivered when the backlog was last looked at
        self._state = load_cursor(path) or CursorState(Position((segments(folder) or [1])[0], 0))
        self._lanes = Lanes(
            folder, self._state.position, self._state.lane, level=frame.clip(level), clock=clock, gone=gone
        )
        self._saved = self._places

    def count_from(self, came: int) -> None:
        """Compute and save `base` unless it is known; ``came`` is how many events have come into the journal so far."""
        if self.base < 0:
            self._state.base = max(0, came - count_events(self._folder, self.position) - self.settled)
            self._save()

    @property
    def base(self) -> int:
        """How many events came before this cursor was made, and are not for it; -1: not known yet."""
        return self._state.base

    @property
    def counts(self) -> dict[str, int]:
        """Outcome → how many events."""
        return self._state.counts

    @property
    def dropped(self) -> Drops:
        """Outcome → level → how many events, for the outcomes that are losses."""
        return self._state.dropped

    @property
    def settled(self) -> int:
        """How many events are settled, and counted."""
        return sum(self.counts.values())

    @property
    def position(self) -> Position:
        """Everything before it is settled, except unsettled events of the express lane."""
        return self._lanes.position

    @property
    def position_read(self) -> Position:
        """The place up to which all events of the main lane were taken, settled or not."""
        return self._lanes.position_read

    @property
    def is_waiting(self) -> bool:
        """Whether an event or a frame at the journal's end is not whole, so that it has to be looked at again."""
        return self._lanes.is_waiting

    @property
    def urgent(self) -> bool:
        """Whether a mark was read since this was last set to False: a flush waits for the events before it."""
        return self._lanes.urgent

    @urgent.setter
    def urgent(self, value: bool) -> None:
        self._lanes.urgent = value

    def set_drain_mode(
        self, final_to: Position | None, *, disk_blocked: bool = False, quota_reached: bool = False
    ) -> None:
        """Set how long to wait for the rest of events that are not whole.

        No process is left that could finish those that begin before ``final_to``; the disk or the quota may keep the
        rest of others out of the journal for now.
        """
        self._lanes.set_drain_mode(final_to, disk_blocked=disk_blocked, quota_reached=quota_reached)

    @property
    def waits_for_rest(self) -> bool:
        """Whether there are events of which not all frames have come, and everything else is settled."""
        return self._lanes.waits_for_rest

    def read(self, most: int, max_bytes: int) -> list[Entry]:
        """Return the next events to deliver: at most ``most``, about ``max_bytes`` bytes.

        OSError when the journal can't be read now and no events were read.
        """
        self._look_at_backlog()
        return self._lanes.read(most, max_bytes)

    def _look_at_backlog(self) -> None:
        """Begin an express lane when the backlog is long and the backend takes events: in an outage none would help."""
        if self._lanes.span is not None or self.base < 0 or self._clock() - self._looked_at < BACKLOG_SECONDS:
            return
        self._looked_at = self._clock()
        before, self._delivered = self._delivered, self.counts.get(DELIVERED, 0)
        if self._delivered > before and self._lanes.unread > self._backlog:
            self._lanes.begin_express(logging.ERROR)

    def lend(self, least: int) -> tuple[Position, Position] | None:
        """See `Lanes.lend`."""
        return self._lanes.lend(least)

    def has_to_lend(self, least: int) -> bool:
        """See `Lanes.has_to_lend`."""
        return self._lanes.has_to_lend(least)

    def pass_lent(self, start: Position, to: Position, counts: Mapping[str, int]) -> bool:
        """Count the outcomes of the events from ``start`` up to ``to``, which another process read; none was lost.

        A later commit saves them. Return False when the events were given up here meanwhile, and counted so.
        """
        is_mine = self._lanes.pass_lent(start, to)
        if is_mine:
            for outcome, count in counts.items():
                self.counts[outcome] = self.counts.get(outcome, 0) + count
        return is_mine

    def take_back(self, until: Position | None = None) -> list[Entry]:
        """See `Lanes.take_back`. OSError when the journal can't be read now."""
        return self._lanes.take_back(until)

    def settle(self, entry: Entry, outcome: str) -> None:
        """Set what became of an event: one of the outcomes in `journal/entry.py`."""
        settle(entry, outcome)

    def commit(self, *, save: bool = True) -> None:
        """Count the events that are settled without a gap, and ``save`` that, or leave saving to a later commit.

        OSError when the disk is full: what was counted is saved by the next commit that can.
        """
        for entry in self._lanes.settled():
            self._count(entry)
        if save and (not self.is_saved or self._was_removed()):
            self._save()

    def _was_removed(self) -> bool:
        """Whether a cleaner has removed the file; looked at once a second, otherwise False."""
        now = self._clock()
        if now - self._checked_at < FILE_SECONDS:
            return False
        self._checked_at = now
        return not os.path.lexists(self._path)

    def _count(self, entry: Entry) -> None:
        outcome = entry.outcome or ""
        self.counts[outcome] = self.counts.get(outcome, 0) + entry.weight
        if outcome in LOST:
            levels = self.dropped.setdefault(outcome, {})
            levels[level_name(entry.level)] = levels.get(level_name(entry.level), 0) + entry.weight

    @property
    def is_saved(self) -> bool:
        """Whether the file has all that is settled and counted: a crash would have none of it sent again."""
        return self._places == self._saved

    @property
    def _places(self) -> tuple[Position, Span | None]:
        return self.position, self._lanes.span

    def _save(self) -> None:
        places = self._places
        self._state.position, self._state.lane = places
        self._state.save(self._path)
        self._saved = places

    def skip_to(self, segment: int) -> None:
        """Give up all events before ``segment`` because of the quota; each is counted under its level.

        Call `commit` afterwards. Entries that are read and not settled yet are given up too.
        """
        for entry in self._lanes.skip_to(segment):
            self._count(entry)

    def close(self) -> None:
        self._lanes.close()
