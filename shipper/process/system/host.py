"""What the machine is and how busy it is. The only module that imports psutil."""

from __future__ import annotations

import contextlib
import platform
import socket
import time
from typing import Any

from .load_samples import Samples, nearest

psutil: Any
try:
    import psutil
except Exception:  # not installed, or not for this machine: events have no load figures
    psutil = None

MAX_SAMPLES = 600
SAMPLE_SECONDS = 1.0  # at least, between two samples
IDLE_SAMPLE_SECONDS = 4.0  # while no events come; less than `load_samples.MAX_DISTANCE_SECONDS`
_UNREADABLE = (OSError, RuntimeError, *((psutil.Error,) if psutil else (AttributeError,)))
"""Raised by psutil where /proc can't be read; without psutil, by the attempt to use it."""


class LoadSampler:
    """CPU and memory of the machine in percent, sampled by `sample`; a call looks them up by time."""

    def __init__(self) -> None:
        self.samples: Samples = ([], [])  # replaced as a whole, never changed: other threads look up one for each event
        self._sampled_at = float("-inf")
        with contextlib.suppress(*_UNREADABLE):
            psutil.cpu_percent(None)  # the first call has nothing to compare with

    def sample_if_due(self, *, idle: bool = False) -> None:
        """Take a sample unless the last one is younger than `SAMPLE_SECONDS`, or `IDLE_SAMPLE_SECONDS`."""
        now = time.monotonic()
        if now - self._sampled_at >= (IDLE_SAMPLE_SECONDS if idle else SAMPLE_SECONDS):
            self._sampled_at = now
            self.sample(time.time())

    def sample(self, now: float) -> None:
        """Take a sample for the time ``now``, seconds since the epoch."""
        with contextlib.suppress(*_UNREADABLE):
            value = (float(psutil.cpu_percent(None)), float(psutil.virtual_memory().percent))
            times, values = self.samples
            self.samples = ([*times[1 - MAX_SAMPLES :], now], [*values[1 - MAX_SAMPLES :], value])

    @property
    def latest(self) -> tuple[float, float, float] | None:
        """Time, CPU and memory of the last sample."""
        times, values = self.samples
        return (times[-1], *values[-1]) if times else None

    def __call__(self, time: float) -> tuple[float, float] | None:
        """Return CPU and memory in percent at about that time: see `nearest`."""
        return nearest(self.samples, time)


def host_name() -> str:
    return platform.node() or "localhost"


def host_address() -> str:
    """The first IPv4 address of the machine outside the loopback network; 127.0.0.1 when there is none."""
    with contextlib.suppress(*_UNREADABLE):
        for addresses in psutil.net_if_addrs().values():
            for each in addresses:
                if each.family == socket.AF_INET and not each.address.startswith("127."):
                    return str(each.address)
    # Connecting a datagram socket sends nothing; it selects the interface towards an address (RFC 5737).
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"
