"""How many requests of a backend are under way at the same time."""

from __future__ import annotations

from collections import deque

NETWORK = 0.003  # seconds: answers that all take longer came over a network, and more at once will help
SURE = 16  # answers before that is believed; until then events go out one after the other


class InFlight:
    """How many requests at the same time: one more for every answer that had to travel, half after a failure.

    The quickest of the last answers tells how far away the server is; a slow one may only tell that this machine is
    busy, and then threads would get into each other's way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 1.0
        self._careful = False
        self._lately: deque[float] = deque(maxlen=32)

    @property
    def size(self) -> int:
        return int(self._size)

    def answered(self, seconds: float) -> None:
        self._lately.append(seconds)
        step = 1 / self._size if self._careful else 1.0
        if len(self._lately) >= SURE and min(self._lately) >= NETWORK:
            self._size = min(self._size + step, self._most)
        else:
            self._size = max(1.0, self._size - 1 / self._size)

    def failed(self) -> None:
        self._size = max(1.0, self._size / 2)
        self._careful = True
