"""Reads a lent part of the journal and makes its requests, in order, each with the outcomes of its events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...errors import DeliveryError
from ...event.codec import unpack
from ...event.model import Event
from ...journal.cursors.window import Window
from ...journal.entry import DELIVERED, FILTERED, Entry, settle
from ...journal.segments import Position
from ..batcher import split
from ..routing import is_routed_elsewhere

Encode = Callable[[Sequence[Event]], "tuple[Mapping[str, str], bytes]"]
"""Makes a request's own headers and its body."""

Send = Callable[[Mapping[str, str], bytes], "DeliveryError | None"]
"""Sends such a request; None when it was accepted."""


class Request(NamedTuple):
    """A request for the events that begin from ``start``, the end of the request before, up to ``end``.

    ``read``: how far the journal was read for all of their frames. ``counts``: outcome → events, once the request is
    accepted. ``oldest``: time of the oldest event, seconds since the epoch; None when no event is to be sent. ``size``:
    bytes of its events, as they are in the journal.
    """

    start: Position
    end: Position
    read: Position
    headers: Mapping[str, str]
    body: bytes
    counts: Mapping[str, int]
    oldest: float | None
    size: int


class PartReader:
    """Makes requests of at most ``most_events`` and ``max_bytes`` of events, or of one larger event.

    ``name``: the backend's. ``takes_all``: see `Dispatcher`. ``level``: lower events are filtered; see `frame.clip`.
    """

    def __init__(
        self,
        folder: str,
        encode: Encode,
        *,
        name: str,
        level: int,
        takes_all: bool,
        most_events: int,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._encode = encode
        self._name = name
        self._level = level
        self._takes_all = takes_all
        self._most_events = most_events
        self._max_bytes = max_bytes
        self._clock = clock

    def read(self, start: Position, end: Position) -> Iterator[Request]:
        """Yield the requests from ``start`` up to ``end``, or up to the first event of which frames are missing.

        Raises what ``encode`` raises, UndecodableError, and OSError when the journal can't be read now.
        """
        # No event is given up here: the deliverer that lent the part decides about incomplete ones.
        window = Window(self._folder, start, level=self._level, clock=self._clock, gone=lambda pid: False)
        reached = start
        try:
            while True:
                window.read(self._most_events, self._max_bytes, end)
                entries = window.take_sendable()
                if not entries:
                    return
                for piece in split(entries, self._most_events, self._max_bytes, lambda entry: self._most_events):
                    request = self._request(window, reached, piece)
                    yield request
                    if request.end != window.position:
                        return
                    reached = request.end
        finally:
            window.close()

    def _request(self, window: Window, start: Position, entries: Sequence[Entry]) -> Request:
        """Make the request for these events, and settle them in the window: the next request begins behind them."""
        size = sum(len(entry.payload or b"") for entry in entries)
        events: list[Event] = []
        for entry in entries:
            event = unpack(entry.payload or b"", entry.id)
            is_elsewhere = is_routed_elsewhere(event.route, self._name, takes_all=self._takes_all)
            if not is_elsewhere:
                events.append(event)
            settle(entry, FILTERED if is_elsewhere else DELIVERED)
        headers, body = self._encode(events) if events else ({}, b"")
        counts: Counter[str] = Counter()
        end: Position | None = None
        for entry in window.settled():
            if entry.outcome not in (DELIVERED, FILTERED):
                end = entry.start  # an event of impossible size: the deliverer that lent the part counts it
                break
            counts[entry.outcome] += entry.weight
        oldest = min((event.time for event in events), default=None)
        end, read = end or window.position, window.position_read
        return Request(start, end, read, headers, body, dict(counts), oldest, size)
