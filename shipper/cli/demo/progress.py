"""What a demo shows while it runs: how many records were logged, and how many have arrived at each service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .application import LINE
from .outcome import SERVICES

if TYPE_CHECKING:
    from ...receiver import Receiver

LIMIT = 60.0  # seconds that a demo may take beyond those of logging; a busy machine is no reason to call it a failure
TICK = 0.1  # seconds between two updates of the display


class Display(Protocol):
    """Where the demo is shown."""

    def line(self, text: str) -> None:
        """Show a line about something that has happened."""
        ...

    def progress(self, emitted: int, delivered: dict[str, int]) -> None: ...


@dataclass
class Arrivals:
    """The names of the records that one service has received so far."""

    receiver: Receiver
    service: str
    names: set[str] = field(default_factory=set)
    last: int = 0

    def follow(self) -> None:
        while found := self.receiver.events(self.service, after=self.last, limit=1000):
            self.last = found[-1]["id"]
            self.names.update(each["message"].rpartition("#")[2] for each in found)


class Progress:
    """Compares the names in the workers' ledgers, files in the folder ``ledgers``, with what the receiver holds."""

    def __init__(self, receiver: Receiver, display: Display, ledgers: Path) -> None:
        self._display = display
        self._ledgers = ledgers
        self._arrived = {service: Arrivals(receiver, service) for service in SERVICES}

    @property
    def names(self) -> dict[str, set[str]]:
        """Service → the names of the records that it has received so far."""
        return {service: each.names for service, each in self._arrived.items()}

    def watch(self, is_over: Callable[[], bool], *, until: float) -> bool:
        """Show the progress until ``is_over``, or until a moment (time.monotonic()); whether it was over."""
        pause = threading.Event()
        while True:
            over = is_over()
            self.update()
            left = until - time.monotonic()
            if over or left <= 0:
                return over
            pause.wait(min(TICK, left))

    def update(self) -> None:
        """Show the progress once."""
        emitted = sum(path.stat().st_size // LINE for path in self._ledgers.iterdir())
        for arrivals in self._arrived.values():
            arrivals.follow()
        self._display.progress(emitted, {service: len(each.names) for service, each in self._arrived.items()})

    def logged(self) -> set[str]:
        """The names of all records whose logging call has returned."""
        return {name for path in self._ledgers.iterdir() for name in path.read_text().split("\n") if name}
