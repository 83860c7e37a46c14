"""Flushes that wait: the marks in the journal that a backend, or the status file, has not passed yet.

A process that flushes puts a mark into the queue and waits until every backend has passed it, as `spool/progress.py`
says at once; then it waits, for a moment only, until `status.json` says so too, for it may be read next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ...journal.account import Account
from ...journal.segments import Position
from ...spool.progress import STATUS_FILE, ProgressWriter

ANNOUNCED_SECONDS = 0.1  # that the mark of a flush may take from its process into the journal
MAX_SECONDS = 10.0  # after which a process that still waits is no reason to hurry

Mark = tuple[int, int, int]
"""Number of the mark, and the place in the journal behind it: segment, offset."""


class Flushes:
    """Used by the main thread. ``positions`` returns how far each backend has come, with nothing unsaved before it."""

    def __init__(
        self,
        account: Account,
        progress: ProgressWriter,
        positions: Callable[[], Sequence[Position]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._progress = progress
        self._positions = positions
        self._clock = clock
        self._marks: dict[str, Mark] = {}
        self._changed_at = float("-inf")
        self._announced_at = float("-inf")
        self._last = Position(0, 0)  # behind the last mark
        self._in_status = Position(0, 0)  # how far the status file says that all have come

    def announce(self) -> None:
        """A process has put a mark into the queue."""
        self._announced_at = self._clock()

    def update(self) -> None:
        """After the account has followed the journal: tell where new marks stand."""
        marks = self._account.marks()
        if marks == self._marks:
            return
        for token, (number, segment, offset) in marks.items():
            if self._marks.get(token) != (number, segment, offset):
                self._progress.write_mark(bytes.fromhex(token), number, (segment, offset))
                self._last = max(self._last, Position(segment, offset))
        self._marks, self._changed_at = marks, self._clock()

    @property
    def is_waiting(self) -> bool:
        """Whether a mark is coming, or a backend has not passed the last one; not any more after `MAX_SECONDS`."""
        if self._clock() - self._announced_at <= ANNOUNCED_SECONDS and self._announced_at > self._changed_at:
            return True
        return self._is_recent and self._least() < self._last

    @property
    def is_status_due(self) -> bool:
        """Whether the status file is all that a process waits for now."""
        if not self._is_recent or self._in_status >= self._last:
            return False
        return not self._progress.is_open or self._least() >= self._last

    def status_written(self, marks: dict[str, Mark], positions: Sequence[Position]) -> None:
        """The status file has these marks, and says that backends have come so far."""
        if marks == self._marks:
            self._in_status = min(positions, default=self._account.position)
            self._progress.write_backend(STATUS_FILE, self._in_status)

    @property
    def _is_recent(self) -> bool:
        return self._clock() - self._changed_at <= MAX_SECONDS

    def _least(self) -> Position:
        return min(self._positions(), default=self._account.position)
