"""CPU and memory for an event that is sent from this thread: the last sample in the shipper process's status file."""

from __future__ import annotations

import threading
import time

from ..application import lifecycle
from ..spool.files import read_json

FIRST_SAMPLE_SECONDS = 3.0  # that the first call waits for a process that was just started
MAX_AGE_SECONDS = 5.0  # between an event and a sample that may speak for it
_POLL_SECONDS = 0.02


class LoadReader:
    """Only the first call waits for a sample."""

    def __init__(self) -> None:
        self._wait_seconds = FIRST_SAMPLE_SECONDS

    def __call__(self, now: float) -> tuple[float, float] | None:
        """CPU and memory in percent near to ``now`` (seconds since the epoch), or None without a sample from then."""
        if abs(now - time.time()) > MAX_AGE_SECONDS:
            return None
        deadline = time.time() + self._wait_seconds
        self._wait_seconds = 0.0
        pause = threading.Event()
        while (sample := _last_sample()) is None or abs(now - sample[0]) > MAX_AGE_SECONDS:
            if time.time() >= deadline or lifecycle.current() is None:
                return None
            pause.wait(_POLL_SECONDS)
        return sample[1:]


def _last_sample() -> tuple[float, float, float] | None:
    """Seconds since the epoch, CPU, memory."""
    app = lifecycle.current()
    status = None if app is None else read_json(app.spool.status)
    try:
        when, cpu, memory = map(float, (status or {})["load"])
    except (LookupError, TypeError, ValueError):  # no sample yet, or the file is damaged
        return None
    return when, cpu, memory
