"""One request and what became of it, for the log of requests."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Exchange:
    """A request, from its head to its answer."""

    at: float = field(default_factory=time.time)  # when its head had arrived, seconds since the epoch
    size: int = 0  # bytes of the body, as it was sent
    status: int | None = None  # None: there was no whole answer
    outcome: str = ""  # as the page shows it: "200", "hang", "the sender left"
    reason: str = ""  # why the service refused it, or that it was a handshake
    failed: bool = False  # no answer, or one with status 300 or more
    wanted: bool = False  # a fault that was asked for made it fail
    stored: bool = True  # whether its events were taken
    _began: float = field(default_factory=time.monotonic)

    @property
    def took(self) -> float:
        """Seconds since the request began."""
        return time.monotonic() - self._began
