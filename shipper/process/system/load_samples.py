"""How busy the machine was, by time."""

from __future__ import annotations

import bisect
import math

MAX_DISTANCE_SECONDS = 5.0  # between an event and the sample that is taken for it

Samples = tuple["list[float]", "list[tuple[float, float]]"]
"""Times (seconds since the epoch, rising), and CPU and memory at each in percent."""


def nearest(samples: Samples, time: float) -> tuple[float, float] | None:
    """CPU and memory in the sample nearest to ``time`` (seconds since the epoch); None without one within 5 s."""
    times, values = samples
    at = bisect.bisect_left(times, time)
    before = time - times[at - 1] if at > 0 else math.inf
    after = times[at] - time if at < len(times) else math.inf
    if min(before, after) > MAX_DISTANCE_SECONDS:
        return None
    return values[at - 1 if before <= after else at]
