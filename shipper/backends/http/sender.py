"""A `Backend` made of an `HttpBackend`: makes its requests, sends them, and classifies the responses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ...errors import DeliveryError, RejectedError, RetryableError, UnauthorisedError
from ...event.model import Event
from ..deprecated import with_current_names
from ..protocol import AppContext, HttpBackend, HttpResponse

# Imported before the first event is encoded: if another backend's event killed the process during a later import, this
# backend's event would be blamed.
from ..wire import jkool_body, trakerr_body  # noqa: F401
from .connect import find_route
from .exchange import Exchange
from .failure import classify_failure, describe, origin
from .idle import ConnectionLimits
from .status import classify_status


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
        self._exchange: Exchange | DeliveryError = RetryableError("not opened yet")

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

    @property
    def initial_in_flight(self) -> int:
        return int(getattr(self._backend, "initial_in_flight", 1))

    def open(self, context: AppContext) -> None:
        """Find the way to the endpoint. Connects to nothing and raises nothing: `send` returns what is wrong."""
        try:
            self._replace(
                Exchange(
                    find_route(self._backend, context),
                    ConnectionLimits.of(self._backend),
                    capacity=self.max_in_flight,
                    classify=self._classify,
                    clock=self._clock,
                )
            )
        except Exception as exc:
            self._replace(UnauthorisedError(f"no way to {origin(self._backend.endpoint)}: {describe(exc)}"))

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        return self.encode(events)() if events else []

    def encode(self, events: Sequence[Event]) -> Callable[[], Sequence[DeliveryError | None]]:
        """Make the request; return a function that sends it and returns the results."""
        exchange = self._exchange
        if isinstance(exchange, DeliveryError):
            return lambda: [exchange] * len(events)
        error: DeliveryError
        try:
            body = self._backend.body(events, exchange.route.context)
            request = exchange.route.request(self._backend.request_headers(events), body)
        except MemoryError:
            error = RetryableError("out of memory")
            return lambda: [error] * len(events)
        except Exception as exc:
            error = RejectedError(f"{self.name} can't encode this event: {type(exc).__name__}: {exc}")
            return lambda: [error] * len(events)
        return lambda: [self._send(exchange, request)] * len(events)

    def send_body(self, headers: Mapping[str, str], body: bytes) -> DeliveryError | None:
        """Send a request made by an encoder process; the result is that of all its events."""
        exchange = self._exchange
        if isinstance(exchange, DeliveryError):
            return exchange
        try:
            request = exchange.route.request(headers, body)
        except MemoryError:
            return RetryableError("out of memory")
        return self._send(exchange, request)

    def close(self) -> None:
        """Close the idle connections; those in use are closed after their response. Idempotent."""
        self._replace(RetryableError("closed"))

    def _replace(self, exchange: Exchange | DeliveryError) -> None:
        with self._lock:
            former, self._exchange = self._exchange, exchange
        if isinstance(former, Exchange):
            former.close()

    def _send(self, exchange: Exchange, request: bytes) -> DeliveryError | None:
        try:
            return exchange.send(request)
        except DeliveryError as exc:
            return exc
        except Exception as exc:
            return classify_failure(exc, origin(self._backend.endpoint))

    def _classify(self, response: HttpResponse) -> DeliveryError | None:
        try:
            error = self._backend.classify_response(response)
        except Exception as exc:
            reason = f"{self.name} can't read the response: {exc}"
            return RetryableError(reason, status=response.status, body=response.body)
        return error or classify_status(response, self._wall_clock())
