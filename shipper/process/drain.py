"""Whether the process drains because its writers are gone or SIGTERM came, and when it gives up."""

from __future__ import annotations

import time
from collections.abc import Callable


class Drain:
    """While draining, every event that is settled restarts the `grace` seconds after which the process ends."""

    def __init__(self, grace: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = grace
        self._clock = clock
        self._progress_at: float | None = None  # None while not draining
        self._settled = 0

    @property
    def is_draining(self) -> bool:
        return self._progress_at is not None

    def update(self, draining: bool, *, settled: int) -> None:
        """Note whether to drain, and how many events are settled by now."""
        if not draining:
            self._progress_at = None
        elif self._progress_at is None or settled != self._settled:
            self._progress_at = self._clock()
        self._settled = settled

    @property
    def is_out_of_time(self) -> bool:
        """Whether nothing was settled for `grace` seconds of draining."""
        return self._progress_at is not None and self._clock() - self._progress_at >= self._grace
