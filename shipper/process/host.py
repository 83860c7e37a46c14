"""What the machine is and how busy it is: the only room that knows psutil."""

from __future__ import annotations

import bisect
import contextlib
import math
import platform
import socket

import psutil

KEPT = 600  # samples, one a second
_REFUSED = (OSError, RuntimeError, psutil.Error)  # what psutil says where /proc is closed to us
NEAR = 5.0  # seconds between an event and a sample that may speak for it


class Load:
    """CPU and memory in percent, sampled once a second by whoever calls `sample`; asked by time."""

    def __init__(self) -> None:
        # Replaced as a whole, never changed: other threads ask for every event.
        self._samples: tuple[list[float], list[tuple[float, float]]] = ([], [])
        with contextlib.suppress(*_REFUSED):
            psutil.cpu_percent(None)  # the first call has nothing to compare with

    def sample(self, now: float) -> None:
        with contextlib.suppress(*_REFUSED):
            value = (float(psutil.cpu_percent(None)), float(psutil.virtual_memory().percent))
            times, values = self._samples
            self._samples = ([*times[1 - KEPT :], now], [*values[1 - KEPT :], value])

    @property
    def latest(self) -> tuple[float, float, float] | None:
        """When the last sample was taken, and what it says."""
        times, values = self._samples
        return (times[-1], *values[-1]) if times else None

    def __call__(self, time: float) -> tuple[float, float] | None:
        """The sample nearest to `time` (seconds since the epoch), or None when there is none within 5 s."""
        times, values = self._samples
        at = bisect.bisect_left(times, time)
        before = time - times[at - 1] if at > 0 else math.inf
        after = times[at] - time if at < len(times) else math.inf
        if min(before, after) > NEAR:
            return None
        return values[at - 1 if before <= after else at]


def host() -> str:
    return platform.node() or "localhost"


def address() -> str:
    """The first address of the machine that is not the loopback's; 127.0.0.1 when there is none."""
    with contextlib.suppress(*_REFUSED):
        for addresses in psutil.net_if_addrs().values():
            for each in addresses:
                if each.family == socket.AF_INET and not each.address.startswith("127."):
                    return str(each.address)
    return "127.0.0.1"
