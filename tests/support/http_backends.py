"""A small HttpBackend with its sender, and servers for it."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from shipper.backends.http.sender import Sender
from shipper.backends.protocol import AppContext, HttpResponse
from shipper.errors import DeliveryError, UnauthorisedError
from shipper.event.model import Event

from .servers import Reply, Request, Server

_CHANCE = random.SystemRandom()  # not the one that is seeded for the order of the tests
CONTEXT = AppContext("app", "/", "host", "127.0.0.1", lambda time: None)
HANDSHAKE = b"<hello/>"
NO_ANSWER = (OSError, http.client.HTTPException)
"""What a request raises without a whole response: a server that ends inside it raises IncompleteRead, no OSError."""


class Meeting:
    """Lets several requests have their connections at the same time."""

    barrier: threading.Barrier | None = None

    def wait(self) -> None:
        if self.barrier is not None:
            self.barrier.wait(30)


@dataclass(frozen=True)
class Described:
    """An HttpBackend that sends messages as lines of text. A response with the body "no" refuses its request."""

    endpoint: str
    shakes_hands: bool = False
    name: str = "described"
    level: int = 0
    max_events: int = 100
    max_in_flight: int = 8
    timeout: tuple[float, float] = (5, 5)
    ca_bundle: str | None = None
    max_idle: float = 45
    max_age: float = 120
    keepalive: float = 15
    own_headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/x"})
    more_headers: Mapping[str, str] = field(default_factory=dict)  # of each request
    meeting: Meeting = field(default_factory=Meeting)

    def headers(self, context: AppContext) -> Mapping[str, str]:
        return self.own_headers

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {"X-Count": str(len(events)), **self.more_headers}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        return "\n".join(event.message for event in events).encode()

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        return ({"Content-Type": "text/handshake"}, HANDSHAKE) if self.shakes_hands else None

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        self.meeting.wait()
        return UnauthorisedError("the body says no", status=response.status) if response.body == "no" else None


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def sending(backend: Any, clock: Clock | None = None, *, cwd: str = "/") -> Iterator[Sender]:
    """Yield an open sender for ``backend``."""
    sender = Sender(backend, clock=clock or Clock())
    sender.open(replace(CONTEXT, cwd=cwd))
    try:
        yield sender
    finally:
        sender.close()


def sent(sender: Sender, message: str = "event") -> DeliveryError | None:
    """The result of sending one event."""
    (result,) = sender.send([Event(message=message)])
    return result


def handshakes(server: Server) -> list[list[bool]]:
    """For each connection, which of its requests were handshakes."""
    return [[request.body == HANDSHAKE for request in requests] for requests in server.connections]


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens.

    It is below the ports that the kernel gives to connections and for port 0: one of those could go to another test
    process before it is used.
    """
    while True:
        port = _CHANCE.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Behaviour:
    """Answers that depend on a request's connection (numbered from 0) and its number on that connection (from 1)."""

    def __init__(self, answer: Callable[[int, int, Request], Reply | None] = lambda conn, nth, request: None) -> None:
        self.answer = answer
        self.server: Server | None = None

    def __call__(self, request: Request) -> Reply | None:
        assert self.server is not None
        for number, requests in enumerate(self.server.connections):
            if any(each is request for each in requests):
                return self.answer(number, len(requests), request)
        return None


@contextmanager
def serving(behaviour: Behaviour, *, port: int = 0, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server whose answers are those of ``behaviour``."""
    with Server(behaviour, port=port, context=context) as server:
        behaviour.server = server
        yield server


def together(sender: Sender, meeting: Meeting, count: int) -> None:
    """Send ``count`` events at the same time, each on a connection of its own."""
    meeting.barrier = threading.Barrier(count)
    with ThreadPoolExecutor(count) as threads:
        assert list(threads.map(lambda number: sent(sender, "fill"), range(count))) == [None] * count
    meeting.barrier = None
