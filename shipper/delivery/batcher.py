"""Decides which events are sent next: failed ones whose wait is over, unsent ones, newly read ones, refused ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from ..config.limits import Batching
from ..event.model import Origin
from ..journal.entry import Entry
from .blame.failures import Failures

MAX_SINGLES = 100  # most requests of one event in a round; a crash re-sends at most a round
MAX_BATCHES = 4  # most requests of many events in a round
MAX_PROBED, MAX_PROBED_BYTES = 1000, 16 * 1024 * 1024  # unsettled events while a backend refuses everything


class Source(Protocol):
    """Where fresh events come from: a backend's cursor."""

    def read(self, max_events: int, max_bytes: int) -> list[Entry]: ...
    def take_urgency(self) -> bool:
        """Whether what was read must not wait for more, as for a flush; False again after this call."""
        ...


class Batcher:
    """The events that were read and are not settled yet, and the batches that are made of them.

    A batch is due by count, bytes or age (`Batching`). ``max_events`` is the most that one request of the backend
    takes; a backend that takes one event a request never waits for more.
    """

    def __init__(
        self, source: Source, failures: Failures, batching: Batching, *, max_events: int, clock: Callable[[], float]
    ) -> None:
        self.per_request = min(max_events, batching.max_events)
        self._source = source
        self._failures = failures
        self._batching = batching
        self._clock = clock
        self._max_requests = MAX_BATCHES if self.per_request > 1 else min(MAX_SINGLES, batching.max_events)
        self._requests_allowed = self._max_requests
        self.was_full = False
        """Whether the last batch was as large as a batch may be; always False with one event per request."""
        self._unsettled: list[Entry] = []
        self._first_read_at = 0.0  # when the oldest event that was never sent was read

    @property
    def is_empty(self) -> bool:
        """Whether every event that was read is settled, as of the last `take`."""
        return not self._unsettled

    @property
    def is_settled(self) -> bool:
        """Whether every event that was read is settled, as of now."""
        return all(entry.outcome is not None for entry in self._unsettled)

    @property
    def is_probing(self) -> bool:
        """Whether only one request a round is allowed."""
        return self._requests_allowed == 1

    def probe(self) -> None:
        """Allow one request a round, until the backend accepts events again."""
        self._requests_allowed = 1

    def ramp_up(self) -> None:
        """Allow twice as many requests as in the last round."""
        self._requests_allowed = min(self._requests_allowed * 2, self._max_requests)

    def take(self, *, at_once: bool) -> list[Entry]:
        """The events to send now, none when none is due. With ``at_once`` an incomplete batch is due too."""
        now = self._clock()
        limit = self._requests_allowed * self.per_request
        self.was_full = False
        self._drop_settled()
        if self._failures.refusals.is_refusing_all:
            return self._next_probe()
        refusals = self._failures.refusals
        refused = list(refusals)
        others = [entry for entry in self._unsettled if entry not in refusals] if refused else self._unsettled
        again = [entry for entry in others if entry.attempts and entry.not_before <= now]
        unsent = [entry for entry in others if not entry.attempts]
        batch = (again + unsent)[:limit]
        if len(batch) < limit and len(self._unsettled) < self._max_requests * self.per_request:
            if not unsent:
                self._first_read_at = now
            batch += self._read(limit - len(batch), self._batching.max_bytes * self._requests_allowed)
        # Refused events come last: the answers to the other events tell whether a refused one is to blame.
        batch += refused[: limit - len(batch)]
        if not batch and self._unsettled and self.is_probing:
            return [min(self._unsettled, key=lambda entry: entry.not_before)]
        self.was_full = self._is_full(batch)
        return batch if again or refused or self._is_due(batch, now, at_once) else []

    def put_back(self, entry: Entry) -> None:
        """Add an event that was read from the source elsewhere, to be sent."""
        self._unsettled.append(entry)

    def _is_full(self, batch: Sequence[Entry]) -> bool:
        if self.per_request == 1 or self._requests_allowed < self._max_requests:
            return False
        has_most_events = len(batch) >= self._max_requests * self.per_request
        return has_most_events or _size_of(batch) >= int(self._batching.max_bytes) * self._max_requests

    def _drop_settled(self) -> None:
        self._unsettled = [entry for entry in self._unsettled if entry.outcome is None]
        for entry in self._failures.refusals:
            if entry.outcome is not None:  # given up by the quota
                self._failures.refusals.forget(entry)

    def _read(self, max_events: int, max_bytes: int) -> list[Entry]:
        fresh = self._source.read(max_events, max_bytes)
        self._unsettled += fresh
        return fresh

    def _next_probe(self) -> list[Entry]:
        """Return one event for a backend that refuses everything, if possible one that it has not refused yet."""
        refusals = self._failures.refusals
        for entry in self._unsettled:
            if entry not in refusals:
                return [entry]
        has_space = len(self._unsettled) < MAX_PROBED and _size_of(self._unsettled) < MAX_PROBED_BYTES
        if has_space and (fresh := self._read(1, self._batching.max_bytes)):
            return fresh
        return list(refusals)[:1]

    def _is_due(self, batch: list[Entry], now: float, at_once: bool) -> bool:
        if at_once or self.per_request == 1 or not batch:
            return True
        if len(batch) >= self.per_request or now - self._first_read_at >= self._batching.max_age:
            return True
        return self._source.take_urgency() or _size_of(batch) >= self._batching.max_bytes

    def next_due_at(self) -> float | None:
        """Return when, by the clock, an unsettled event becomes due even if no new one comes; None without one."""
        waiting = self._first_read_at + self._batching.max_age
        return min((each.not_before if each.attempts else waiting for each in self._unsettled), default=None)

    def requests(self, batch: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Yield the batch in pieces for one request each: events of one origin, within its limits."""
        for together in _by_origin(batch):
            yield from self._pieces(together)

    def _pieces(self, batch: Sequence[Entry]) -> Iterator[list[Entry]]:
        def most_with(entry: Entry) -> int:
            return self._failures.max_batch_with(entry, self.per_request)

        return split(batch, self.per_request, self._batching.max_bytes, most_with)


def split(
    batch: Iterable[Entry], most: int, max_bytes: int, most_with: Callable[[Entry], int]
) -> Iterator[list[Entry]]:
    """Yield the batch in pieces of at most ``most`` events and ``max_bytes`` bytes, or of one larger event.

    ``most_with``: the most events in a piece with the given one.
    """
    piece: list[Entry] = []
    size, limit = 0, most
    for entry in batch:
        length = len(entry.payload or b"")
        own_limit = most_with(entry)
        limit = min(limit, own_limit)
        if piece and (len(piece) >= limit or size + length > max_bytes):
            yield piece
            piece, size, limit = [], 0, own_limit
        piece.append(entry)
        size += length
    if piece:
        yield piece


def _by_origin(batch: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    """The events of each origin, in order: a request says once where its events were logged."""
    if all(entry.origin is None for entry in batch):
        return [batch]
    found: dict[Origin | None, list[Entry]] = {}
    for entry in batch:
        found.setdefault(entry.origin, []).append(entry)
    return found.values()


def _size_of(batch: Sequence[Entry]) -> int:
    return sum(len(entry.payload or b"") for entry in batch)
