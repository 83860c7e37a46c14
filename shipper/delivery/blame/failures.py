"""What becomes of an event that its backend did not take: sent again, and when, or a dead letter."""

from __future__ import annotations

from collections.abc import Callable

from ...config.limits import Retry
from ...errors import RetryableError, UnauthorisedError
from ...journal.entry import Entry
from .refusals import Refusals, RefusesAllError

SUSPECT_ATTEMPTS = 5  # failures of one event before others are tried first; three times as many without a status
OUTAGE_STATUSES = (408, 425, 429, 502, 503, 504)  # answers that no event is to blame for
POISON_ATTEMPTS = 20
POISON_ACCEPTED = 20  # events accepted while one fails, before that one is to blame


class Failures:
    """Decides whether an event or its backend is to blame for a failure, from what was accepted meanwhile.

    ``parallel_events`` is how many events may be under way at once. If no more than that are accepted while an event
    fails, it is not suspected for that. ``refusals`` holds the events that were refused for good.
    """

    def __init__(self, retry: Retry, refusals: Refusals, *, parallel_events: int, clock: Callable[[], float]) -> None:
        self.refusals = refusals
        self._retry = retry
        self._parallel_events = parallel_events
        self._clock = clock

    def put_off(self, entry: Entry, answer: RetryableError) -> None:
        """Have an event sent again: in its turn, to keep the order after an outage, or later if it may be to blame."""
        now = self._clock()
        if entry.failing_since is None:
            entry.failing_since = now
            entry.passed_then = self.refusals.accepted
        entry.attempts += 1
        pause = min(self._retry.initial * 2.0 ** min(entry.attempts, 30), self._retry.maximum)
        entry.not_before = now + pause if self._is_suspect(entry, answer) else now

    def _is_suspect(self, entry: Entry, answer: RetryableError) -> bool:
        """Whether others were accepted while it failed, or it failed often with an answer that may be about it."""
        if self._accepted_since(entry) > self._parallel_events:
            return True
        is_outage = answer.status in OUTAGE_STATUSES or answer.retry_after is not None
        if is_outage or isinstance(answer, UnauthorisedError):
            return False
        return entry.attempts >= (SUSPECT_ATTEMPTS if answer.status is not None else 3 * SUSPECT_ATTEMPTS)

    def is_poison(self, entry: Entry, answer: RetryableError) -> bool:
        """Whether this event alone fails, again and again, while others are accepted."""
        if isinstance(answer, UnauthorisedError) or answer.retry_after is not None or answer.status in (429, 503):
            return False
        if entry.failing_since is None or entry.attempts < POISON_ATTEMPTS:
            return False
        failing = self._clock() - entry.failing_since
        return failing >= self._retry.poison_after and self._accepted_since(entry) >= POISON_ACCEPTED

    def max_batch_with(self, entry: Entry, per_request: int) -> int:
        """How many events may share a request with this one: fewer, the more often it failed while others passed."""
        if entry in self.refusals:
            return 1
        if entry.attempts and self._accepted_since(entry) > 0:
            return max(1, per_request >> min(entry.attempts, 30))
        return per_request

    def _accepted_since(self, entry: Entry) -> int:
        return self.refusals.accepted - entry.passed_then


def dominant_failure(one: RetryableError | None, other: RetryableError | None) -> RetryableError | None:
    """Return the failure that decides the wait: one that only a person can end, else the longer ``Retry-After``."""
    if one is None or other is None:
        return one or other
    for lasting in (UnauthorisedError, RefusesAllError):
        if isinstance(one, lasting) != isinstance(other, lasting):
            return one if isinstance(one, lasting) else other
    return one if (one.retry_after or 0.0) >= (other.retry_after or 0.0) else other
