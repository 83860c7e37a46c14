"""How many requests of a backend are under way at the same time."""

from __future__ import annotations

import threading
from collections import deque

MIN_RTT_SECONDS = 0.003  # answers that all take longer came over a network: more requests at once will help
MIN_SAMPLES = 16  # answers before the number may grow


class Concurrency:
    """The number of requests at the same time: ``initial`` at the start, at most ``maximum``. Thread-safe.

    While answers come over a network, each adds 1, or 1 / number once a request has failed. Every other answer
    takes away 1 / number. A failure halves the number.

    The quickest of the last 32 answers tells how far away the server is. A slow one may only mean that this machine is
    busy, and then more threads would slow each other down.
    """

    def __init__(self, maximum: int, *, initial: int = 1) -> None:
        self._maximum = maximum
        self._size = float(min(initial, maximum))
        self._has_failed = False
        self._round_trips: deque[float] = deque(maxlen=32)
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The most requests at the same time."""
        return int(self._size)

    def answered(self, seconds: float) -> None:
        """Note that a request was answered after waiting for ``seconds``."""
        with self._lock:
            self._round_trips.append(seconds)
            step = 1 / self._size if self._has_failed else 1.0
            if len(self._round_trips) >= MIN_SAMPLES and min(self._round_trips) >= MIN_RTT_SECONDS:
                self._size = min(self._size + step, self._maximum)
            else:
                self._size = max(1.0, self._size - 1 / self._size)

    def failed(self) -> None:
        with self._lock:
            self._size = max(1.0, self._size / 2)
            self._has_failed = True
