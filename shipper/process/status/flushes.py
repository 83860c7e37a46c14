"""Flushes that wait: the marks in the journal that a backend, or the status file, has not passed yet.

A process that flushes puts a mark into the queue and waits until every backend that is not paused has passed it,
which it reads in the file of `spool/progress.py`. Then it waits briefly until `status.json` says so, too, as that may
be read next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ...journal.account import Account
from ...journal.segments import Position
from ...spool.progress import STATUS_FILE, ProgressWriter

ANNOUNCED_SECONDS = 0.1  # for the mark of a flush to get from its process into the journal
MAX_SECONDS = 10.0  # after which a process that still waits does not make this one hurry any more

Mark = tuple[int, int, int]
"""Number of the mark, and the place in the journal behind it: segment, offset."""


class Flushes:
    """Used by the main thread. ``positions`` returns the saved position of each backend."""

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
        self._last = Position(0, 0)  # the place behind the last mark
        self._in_status = Position(0, 0)  # how far all backends are, according to the status file

    def announce(self) -> None:
        """Note that a process has put a mark into the queue."""
        self._announced_at = self._clock()

    def update(self) -> None:
        """Publish where new marks are in the journal. Call it after the account has followed the journal."""
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
        """Note which marks the status file has, and which positions of the backends."""
        if marks == self._marks:
            self._in_status = min(positions, default=self._account.position)
            self._progress.write_backend(STATUS_FILE, self._in_status)

    @property
    def _is_recent(self) -> bool:
        return self._clock() - self._changed_at <= MAX_SECONDS

    def _least(self) -> Position:
        return min(self._positions(), default=self._account.position)
