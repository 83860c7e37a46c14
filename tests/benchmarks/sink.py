"""A backend that appends each event's message to a file, one per line; `storm` reads the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from shipper import AppContext, DeliveryError, Event


@dataclass
class FileSink:
    """Appends messages to the file ``path``; `open` opens it in the process that sends."""

    path: str
    name: str = "file"
    level: int = 0
    max_events: int = 500
    max_in_flight: int = 1
    fd: int = -1

    def open(self, context: AppContext) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        os.write(self.fd, "".join(f"{event.message}\n" for event in events).encode())
        return [None] * len(events)

    def close(self) -> None:
        os.close(self.fd)
