"""Delivers events of many machines and apps, to the service each as if its own machine had sent it.

An HTTP backend says in headers, bodies or a handshake where events were logged, and takes that from the `AppContext`
of its sender. So each origin has a sender with its own connections; those used least recently are closed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..backends.exporter import described
from ..backends.http.sender import Sender
from ..backends.protocol import AppContext
from ..errors import DeliveryError
from ..event.model import Event, Origin

MAX_ORIGINS = 64  # whose senders are kept

Answers = Sequence["DeliveryError | None"]


@dataclass
class _Machine:
    """One origin: its sender, and the machine's load as of its latest events."""

    sender: Sender
    load: tuple[float, float] | None = None

    def loaded(self, time: float) -> tuple[float, float] | None:
        return self.load


class ByOrigin:
    """A backend made of an HTTP backend's settings. The events of one call are of one origin.

    `send` and `encode` may be called by several threads.
    """

    def __init__(self, description: Any) -> None:
        requests = described(description)
        self.name: str = requests.name
        self.level: int = requests.level
        self.max_events: int = requests.max_events
        self.max_in_flight: int = requests.max_in_flight
        self.initial_in_flight = int(getattr(requests, "initial_in_flight", 1))
        self._description = description
        self._lock = threading.Lock()
        self._machines: OrderedDict[Origin | None, _Machine] = OrderedDict()
        self._own: AppContext | None = None

    def open(self, context: AppContext) -> None:
        """``context`` is the relay's own, for events that do not say where they come from."""
        self._own = context

    def send(self, events: Sequence[Event]) -> Answers:
        return self.encode(events)() if events else []

    def encode(self, events: Sequence[Event]) -> Callable[[], Answers]:
        """Make the request; calling what this returns sends it."""
        return self._machine(events[0].origin).sender.encode(events)

    def close(self) -> None:
        with self._lock:
            machines, self._machines = self._machines, OrderedDict()
        for machine in machines.values():
            machine.sender.close()

    def _machine(self, origin: Origin | None) -> _Machine:
        oldest: list[_Machine] = []
        with self._lock:
            machine = self._machines.get(origin) or self._open(origin)
            self._machines.move_to_end(origin)
            machine.load = origin.load if origin is not None else None
            while len(self._machines) > MAX_ORIGINS:
                oldest.append(self._machines.popitem(last=False)[1])
        for each in oldest:
            each.sender.close()  # a request under way is answered first
        return machine

    def _open(self, origin: Origin | None) -> _Machine:
        assert self._own is not None, "open() comes first"
        machine = _Machine(Sender(described(self._description)))
        context = self._own
        if origin is not None:
            context = AppContext(origin.app, origin.cwd, origin.host, origin.address, machine.loaded, self._own.mask)
        machine.sender.open(context)
        self._machines[origin] = machine
        return machine
