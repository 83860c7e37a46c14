"""What a backend is: the interfaces that `shipper.start` accepts, and the values that a backend is given.

A backend is a description. It is pickled in the application and travels to the shipper process, where it is opened and
sent to. A backend that speaks HTTP only describes its requests (`HttpBackend`); `http.sender.Sender` sends them. Any
other backend implements `send` itself (`Backend`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..errors import DeliveryError
from ..event.model import Event

LoadSampler = Callable[[float], "tuple[float, float] | None"]
"""Maps a time (seconds since the epoch) to (CPU %, memory %) of the machine; None when no sample was taken near it."""


@dataclass(frozen=True)
class AppContext:
    """Where the application runs: the values that a backend adds to events that do not carry them.

    ``app``: the app's name. ``cwd``: its working directory at `shipper.start`; source files below it are named relative
    to it. ``host``: the host's name. ``address``: the host's IP address, "127.0.0.1" when it has no other. ``load``:
    the machine's load at a time. ``mask``: masks secrets in a text that is not part of the event.
    """

    app: str
    cwd: str
    host: str
    address: str
    load: LoadSampler
    mask: Callable[[str], str] = str


@runtime_checkable
class Backend(Protocol):
    """Takes batches of events and returns one result per event.

    Two more attributes are used if it has them. ``initial_in_flight``: how many calls of `send` at the same time to
    begin with (1). ``encode(events)``, which is used in place of `send`: makes the request without waiting, maybe again
    for the same events; calling what it returns sends it, and returns the results. Without ``encode`` nothing guards
    against an event that kills the process while it is encoded: with it, such an event becomes a dead letter.
    """

    @property
    def name(self) -> str:
        """1 to 64 letters, digits, dashes or underscores: part of file names and of the status."""
        ...

    @property
    def level(self) -> int:
        """The lowest level that is sent here, as a number of `logging`."""
        ...

    @property
    def max_events(self) -> int:
        """The most events in one `send`; 1 means one event per request."""
        ...

    @property
    def max_in_flight(self) -> int:
        """The most calls of `send` at the same time; with 1, two threads never call it at once."""
        ...

    def open(self, context: AppContext, /) -> None:
        """Called once, in the shipper process, before the first `send`."""
        ...

    def send(self, events: Sequence[Event], /) -> Sequence[DeliveryError | None]:
        """Return one result per event, in order; None means delivered.

        Must not raise, and must return within the backend's own time-out.
        """
        ...

    def close(self) -> None:
        """Called once, after the last `send`."""
        ...


class Described:
    """Settings that the shipper process makes a `Backend` of; they describe no HTTP requests."""

    name: str
    level: int
    max_in_flight: int


@dataclass(frozen=True)
class HttpResponse:
    """The response to one request: at most 64 KiB of its body, decoded as UTF-8 with replacement characters.

    ``content``: the same part of the body as bytes, for services whose responses are no text.
    """

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: str
    content: bytes = b""


@runtime_checkable
class HttpBackend(Protocol):
    """Describes requests and what their responses mean; `http.sender.Sender` makes a `Backend` of it."""

    @property
    def name(self) -> str:
        """See `Backend.name`."""
        ...

    @property
    def level(self) -> int:
        """See `Backend.level`."""
        ...

    @property
    def max_events(self) -> int:
        """See `Backend.max_events`."""
        ...

    @property
    def max_in_flight(self) -> int:
        """The most requests at the same time."""
        ...

    @property
    def endpoint(self) -> str:
        """The URL to which every request is POSTed."""
        ...

    @property
    def timeout(self) -> tuple[float, float]:
        """Seconds to connect, seconds until the whole response has been read."""
        ...

    def headers(self, context: AppContext, /) -> Mapping[str, str]:
        """Return the headers of every request that carries events."""
        ...

    def request_headers(self, events: Sequence[Event], /) -> Mapping[str, str]:
        """Return further headers for the request that carries these events."""
        ...

    def body(self, events: Sequence[Event], context: AppContext, /) -> bytes:
        """Return the body of the request that carries these events."""
        ...

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        """Return headers and body of the first request on every new connection, or None for no handshake."""
        ...

    def classify_response(self, response: HttpResponse, /) -> DeliveryError | None:
        """Return the error that the service's own rules find in a response; None leaves it to the status code."""
        ...
