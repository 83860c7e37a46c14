"""What a backend is, and the registry of those that can be named in a setting.

A backend is a description that travels from the application to the shipper process (it is pickled), where it is
opened and sent to. One that speaks HTTP only describes its requests (`HttpBackend`), and `http.py` sends them;
anything else implements `send` itself (`Backend`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from .._support.values import Values
from ..errors import DeliveryError
from ..event.model import Event

Load = Callable[[float], "tuple[float, float] | None"]
"""(CPU %, memory %) of the machine nearest to a time (seconds since the epoch); None when none was sampled near it."""


class Site(Values):
    """Where the application runs: what a backend adds to every event that does not say it itself."""

    app: str
    cwd: str  # working directory at start(); source files under it are named relative to it
    host: str
    address: str  # the host's own IP address, "127.0.0.1" when it has none
    load: Load
    mask: Callable[[str], str] = str  # hides secrets in a text that did not come with the event


@runtime_checkable
class Backend(Protocol):
    """Takes events, and answers for each one."""

    @property
    def name(self) -> str: ...
    @property
    def level(self) -> int:
        """Events below it are not sent here."""
        ...

    @property
    def max_events(self) -> int:
        """The most events that one send takes; 1 is one event a request."""
        ...

    @property
    def max_in_flight(self) -> int:
        """The most sends at the same time; with 1, `send` is never called by two threads at once."""
        ...

    def open(self, site: Site) -> None:
        """Called once, in the shipper process, before the first send."""
        ...

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        """One answer per event, in order: None is delivered. Raises nothing; blocks no longer than its own timeout."""
        ...

    def close(self) -> None: ...


class Answer(Values):
    """What came back for one request: at most 64 KiB of the body, decoded with replacement."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: str


@runtime_checkable
class HttpBackend(Protocol):
    """Says url, headers, body and what an answer means, and nothing else. `http.Sender` makes a `Backend` of it."""

    @property
    def name(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def max_events(self) -> int: ...
    @property
    def max_in_flight(self) -> int: ...
    @property
    def endpoint(self) -> str:
        """The URL that every request is POSTed to."""
        ...

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds to connect, seconds until the whole answer is there."""
        ...

    def headers(self, site: Site) -> Mapping[str, str]:
        """The headers that all requests share."""
        ...

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        """The headers of this request alone."""
        ...

    def body(self, events: Sequence[Event], site: Site) -> bytes: ...

    def greeting(self) -> tuple[Mapping[str, str], bytes] | None:
        """The handshake: headers and body of the first request of every new connection, or None."""
        ...

    def verdict(self, answer: Answer) -> DeliveryError | None:
        """What the backend's own rules make of an answer; None leaves it to the status code."""
        ...
