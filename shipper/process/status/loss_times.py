"""When events were last lost, by reason: counters alone do not say whether that was today."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class LossTimes:
    """``known`` and ``times``: counters, and the last time for each reason, as the last process wrote them."""

    def __init__(
        self,
        known: Mapping[str, Mapping[str, int]],
        times: Mapping[str, float],
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._counts = {reason: sum(levels.values()) for reason, levels in known.items()}
        self._times = dict(times)
        self._wall_clock = wall_clock

    def update(self, drops: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
        """Reason → when its counter was last seen to grow, in seconds since the epoch. ``drops``: counters now."""
        for reason, levels in drops.items():
            count = sum(levels.values())
            if count > self._counts.get(reason, 0):
                self._times[reason] = self._wall_clock()
            self._counts[reason] = count
        return dict(self._times)
