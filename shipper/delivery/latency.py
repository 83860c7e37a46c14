"""How long requests take, and how much they carry: a histogram and a counter for the metrics."""

from __future__ import annotations

import threading
from bisect import bisect_left

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds; requests that take longer than the last one have a count of their own."""


class Latency:
    """Counts of requests by their duration, since the process started. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BUCKETS_SECONDS) + 1)
        self._seconds = 0.0
        self.sent_bytes = 0
        """Bytes of the events in all requests, in the form that they have in the journal."""

    def observe(self, seconds: float, size: int = 0) -> None:
        """Count one request, and the bytes of its events."""
        with self._lock:
            self.sent_bytes += size
            self._counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
            self._seconds += seconds

    def snapshot(self) -> tuple[tuple[int, ...], float]:
        """The counts, one for each bound and one for what took longer; and the seconds of all requests together."""
        with self._lock:
            return tuple(self._counts), self._seconds
