"""A backend's cursor, with what was last committed, for the deliverer and for the quota.

The deliverer's thread reads and commits, and its request threads settle. The main thread gives up segments when the
journal is above its quota, even while the deliverer waits. Each call holds the lock for no longer than one read or one
write of the cursor's file.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..journal.entry import Entry
from ..journal.segments import Position
from .cursor import Cursor

MAX_UNSAVED_SECONDS = 0.1  # for which a few settled single events may stay unsaved


@dataclass(frozen=True)
class Progress:
    """How far a backend has come. Replaced as a whole, so any thread may read it."""

    position: Position  # every event before it is settled
    durable: Position  # every event before it is settled, and a crash sends none of them again
    base: int  # events of the journal from before this cursor was made
    settled: int
    counts: Mapping[str, int]  # outcome → events
    dropped: Mapping[str, Mapping[str, int]]  # reason → level → events


class Checkpoint:
    """Reads events, settles them and commits.

    Saving is due when ``max_unsaved`` events were settled since the last save: a crash has them sent again. With 0 it
    is always due. ``on_progress`` is called after a commit that counted or saved anything.
    """

    def __init__(
        self, cursor: Cursor, *, max_unsaved: int, on_progress: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._cursor = cursor
        self._max_unsaved = max_unsaved
        self._on_progress = on_progress
        self._clock = clock
        self._lock = threading.Lock()
        self._saved_at = float("-inf")
        self._saved_count = cursor.settled
        self.progress = self._snapshot(cursor.position)

    def _snapshot(self, durable: Position) -> Progress:
        cursor = self._cursor
        dropped = {reason: dict(levels) for reason, levels in cursor.dropped.items()}
        return Progress(cursor.position, durable, cursor.base, cursor.settled, dict(cursor.counts), dropped)

    def read(self, max_events: int, max_bytes: int) -> list[Entry]:
        """Return at most ``max_events`` events of about ``max_bytes``. OSError when the journal can't be read now."""
        with self._lock:
            return self._cursor.read(max_events, max_bytes)

    def take_urgency(self) -> bool:
        """Whether what was read must not wait for more, as for a flush; False again after this call."""
        with self._lock:
            urgent, self._cursor.urgent = self._cursor.urgent, False
            return urgent

    def set_drain_mode(self, *, final_to: Position | None, disk_blocked: bool, quota_reached: bool) -> None:
        """See `Cursor.set_drain_mode`."""
        with self._lock:
            self._cursor.set_drain_mode(final_to, disk_blocked=disk_blocked, quota_reached=quota_reached)

    @property
    def waits_for_rest(self) -> bool:
        """Whether only events with missing frames, at least one, are left to settle."""
        with self._lock:
            return self._cursor.waits_for_rest

    def settle(self, entry: Entry, outcome: str) -> None:
        """Note what became of an event; it counts with the next commit."""
        self._cursor.settle(entry, outcome)

    def is_save_due(self, coming: int = 0) -> bool:
        """Whether to save before ``coming`` more events are sent."""
        with self._lock:
            unsaved = self._cursor.settled - self._saved_count + coming
        return unsaved >= self._max_unsaved or self._clock() - self._saved_at >= MAX_UNSAVED_SECONDS

    @property
    def is_waiting(self) -> bool:
        """Whether the journal has to be looked at again although nothing is appended: see `Cursor.is_waiting`."""
        with self._lock:
            return self._cursor.is_waiting

    def save_due_at(self) -> float | None:
        """Return when, by the clock, unsaved progress has to be saved; None when everything is saved."""
        with self._lock:
            return None if self._cursor.is_saved else self._saved_at + MAX_UNSAVED_SECONDS

    def commit(self, *, save: bool = True) -> None:
        """Count what is settled without a gap and, with ``save``, save the cursor. OSError: try again later."""
        with self._lock:
            changed = self._commit(save)
        if changed:
            self._on_progress()

    def _commit(self, save: bool) -> bool:
        cursor, before = self._cursor, self.progress
        cursor.commit(save=save)
        durable = before.durable
        if cursor.is_saved and durable != cursor.position:
            durable = cursor.position
            self._saved_at = self._clock()
            self._saved_count = cursor.settled
        if (before.position, before.durable, before.settled) == (cursor.position, durable, cursor.settled):
            return False
        self.progress = self._snapshot(durable)
        return True

    def give_up_before(self, segment: int) -> None:
        """Settle every event before the segment as lost to the quota. OSError when that can't be saved now."""
        with self._lock:
            if self.progress.durable.segment >= segment:
                return
            self._cursor.skip_to(segment)
            self._commit(True)
        self._on_progress()

    # -- what is lent (`lending/lending.py`) ---------------------------------------------------------------------------

    def lend(self, least: int) -> tuple[Position, Position] | None:
        """See `Cursor.lend`; also None while the journal can't be read."""
        with self._lock, contextlib.suppress(OSError):
            return self._cursor.lend(least)
        return None

    def has_to_lend(self, least: int) -> bool:
        """See `Cursor.has_to_lend`; False while the journal can't be read."""
        with self._lock, contextlib.suppress(OSError):
            return self._cursor.has_to_lend(least)
        return False

    def is_lent_from(self, start: Position) -> bool:
        """Whether everything before ``start`` is settled, and nothing behind it was given up meanwhile."""
        with self._lock:
            return self._cursor.position == start

    def pass_lent(self, start: Position, to: Position, counts: Mapping[str, int]) -> bool:
        """See `Cursor.pass_lent`."""
        with self._lock:
            return self._cursor.pass_lent(start, to, counts)

    def take_back(self, until: Position | None = None) -> list[Entry]:
        """See `Cursor.take_back`."""
        with self._lock:
            return self._cursor.take_back(until)

    def close(self) -> None:
        self._cursor.close()
