"""A `Backend` made of an `HttpBackend`: makes its requests, sends them, and classifies the responses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from ...errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from ...event.model import Event
from ..deprecated import with_current_names
from ..protocol import AppContext, HttpBackend, HttpResponse
from .connect import Route, find_route
from .connection import Connection
from .failure import classify_failure, describe, origin
from .status import classify_status

IDLE = 240.0
"""Seconds without a request after which a connection is opened anew; jKool's server closes its side after 300."""


class Sender:
    """Sends one request per call of `send`, on keep-alive connections; its response counts for all of its events.

    Proxies and CA certificates are read from the environment once, in `open`; the backend's own ``ca_bundle`` wins over
    ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` and ``SSL_CERT_FILE``. Certificates are always verified, redirects never
    followed. `send` may be called by several threads at once.
    """

    def __init__(
        self,
        backend: HttpBackend,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = with_current_names(backend)
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._route: Route | DeliveryError = RetryableError("not opened yet")
        self._idle: list[Connection] = []

    @property
    def name(self) -> str:
        return self._backend.name

    @property
    def level(self) -> int:
        return self._backend.level

    @property
    def max_events(self) -> int:
        return self._backend.max_events

    @property
    def max_in_flight(self) -> int:
        return self._backend.max_in_flight

    def open(self, context: AppContext) -> None:
        """Find the way to the endpoint. Connects to nothing and raises nothing: `send` returns what is wrong."""
        with self._lock:
            self._leave()
            try:
                self._route = find_route(self._backend, context)
            except Exception as exc:
                self._route = UnauthorisedError(f"no way to {origin(self._backend.endpoint)}: {describe(exc)}")

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        return self.encode(events)() if events else []

    def encode(self, events: Sequence[Event]) -> Callable[[], Sequence[DeliveryError | None]]:
        """Make the request; calling what this returns sends it and returns the results."""
        route = self._route
        if isinstance(route, DeliveryError):
            return lambda: [route] * len(events)
        error: DeliveryError
        try:
            body = self._backend.body(events, route.context)
            request = route.request(self._backend.request_headers(events), body)
        except MemoryError:
            error = RetryableError("out of memory")
            return lambda: [error] * len(events)
        except Exception as exc:
            error = RejectedError(f"{self.name} can't encode this event: {type(exc).__name__}: {exc}")
            return lambda: [error] * len(events)
        return lambda: [self._exchange(route, request)] * len(events)

    def close(self) -> None:
        """Close the idle connections; those in use are closed after their response. Idempotent."""
        with self._lock:
            self._leave()
            self._route = RetryableError("closed")

    def _leave(self) -> None:
        while self._idle:
            self._idle.pop().close()
        if isinstance(self._route, Route):
            self._route.close()

    def _exchange(self, route: Route, request: bytes) -> DeliveryError | None:
        try:
            connection = self._take() or self._connect(route)
            response = connection.exchange(request)
        except DeliveryError as exc:
            return exc
        except Exception as exc:
            return classify_failure(exc, origin(self._backend.endpoint))
        self._keep(connection, route)
        return self._classify(response)

    def _classify(self, response: HttpResponse) -> DeliveryError | None:
        try:
            error = self._backend.classify_response(response)
        except Exception as exc:
            reason = f"{self.name} can't read the response: {exc}"
            return RetryableError(reason, status=response.status, body=response.body)
        return error or classify_status(response, self._wall_clock())

    # -- connections -------------------------------------------------------------------------------------------------

    def _take(self) -> Connection | None:
        """The connection that was used last, if it can be used again."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        if self._clock() - connection.last_used < IDLE and connection.is_reusable:
            return connection
        connection.close()
        return None

    def _keep(self, connection: Connection, route: Route) -> None:
        if not connection.is_open:
            return
        connection.last_used = self._clock()
        with self._lock:
            if self._route is route and len(self._idle) < self._backend.max_in_flight:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, route: Route) -> Connection:
        """A new connection, after its handshake. Raises DeliveryError when the service refuses the handshake."""
        connection = route.connect()
        if route.handshake is None:
            return connection
        error = self._classify(connection.exchange(route.handshake))
        if error is None:
            # A server of one request per connection has accepted us too, and gets our key with the event.
            return connection if connection.is_open else route.connect()
        connection.close()
        if isinstance(error, (RejectedError, TooLargeError)):
            # The handshake was refused, not the event: the event must not become a dead letter.
            raise UnauthorisedError(f"handshake: {error.reason}", status=error.status, body=error.body)
        raise error
