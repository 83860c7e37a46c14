"""Tells whether a refused event is to blame, or a backend that refuses everything.

A wrong path or a retired service answers 404 to every event, and no event is to blame. So an event that is refused is
not a dead letter yet: it is kept, others are tried, and it is sent once more. Refused again it is to blame, if the
backend has accepted another one meanwhile, or was accepting before and has refused only a few.

The backend is to blame when it has refused `MAX_IN_ROW` different events in a row, or one event twice without having
accepted any since this process began. Then nothing becomes a dead letter, and one event at a time is tried, each time
another one, until one is accepted.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator

from ...errors import RejectedError, RetryableError
from ...journal.entry import Entry

MAX_IN_ROW = 5  # different events that are refused, with none accepted between them, before the backend is to blame


class BadEventError(RejectedError):
    """The event is to blame: it can't be decoded, kills the process, or is too large even when cut."""


class RefusesAllError(RetryableError):
    """The backend refuses everything. Nothing is thrown away: a person has to correct the setting or the service."""


class Blame(enum.Enum):
    """What follows from a refusal."""

    UNKNOWN = "the event is sent once more, after others"
    EVENT = "the event becomes a dead letter"
    BACKEND = "the backend refuses everything"


class Refusals:
    """The events that their backend has refused and that are not settled. The threads of its requests share it."""

    def __init__(self) -> None:
        self.accepted = 0  # events that the backend has taken since this process began
        self.is_refusing_all = False
        self._lock = threading.Lock()
        self._refused: dict[Entry, int] = {}  # → `accepted` at that time; the one tried least recently is the first
        self._in_row = 0  # different events that were refused since one was accepted

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._refused

    def __iter__(self) -> Iterator[Entry]:
        """The events that are not settled, the one that was tried least recently first."""
        return iter(list(self._refused))  # `list` copies in one step, also without a GIL

    def __len__(self) -> int:
        return len(self._refused)

    def note_accepted(self, entry: Entry) -> None:
        """The backend took this event."""
        with self._lock:
            self.accepted += 1
            self._refused.pop(entry, None)
            self._in_row = 0
            self.is_refusing_all = False

    def note_others_accepted(self, count: int) -> None:
        """Note that the backend took ``count`` events, none of which it had refused before."""
        with self._lock:
            self.accepted += count
            if count:
                self._in_row = 0

    def note_refused(self, entry: Entry) -> Blame:
        """Note that the backend refused this event; return what is to blame."""
        with self._lock:
            before = self._refused.pop(entry, None)
            others_accepted = before is not None and before < self.accepted
            if others_accepted and not self.is_refusing_all:
                return Blame.EVENT
            if before is None or others_accepted:
                self._in_row += 1
            if self._in_row >= MAX_IN_ROW or (before is not None and not self.accepted):
                self.is_refusing_all = True
            elif before is not None:
                return Blame.EVENT
            self._refused[entry] = self.accepted
            if self.is_refusing_all:
                self._refused = dict.fromkeys(self._refused, self.accepted)
                return Blame.BACKEND
            return Blame.UNKNOWN

    def forget(self, entry: Entry) -> None:
        """Remove an event that was settled without an answer."""
        if self._refused:
            with self._lock:
                self._refused.pop(entry, None)
