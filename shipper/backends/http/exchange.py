"""Chooses the connection for a request: an idle one, a new one after its handshake, or one for this request only.

1. Every connection that is kept begins with the backend's handshake, if it has one.
2. An idle connection that turns out to be dead costs one attempt: the request goes over a new connection at once, and
   the other idle connections are not used any more.
3. A server that closes each connection after its first response, announced or not, gets the handshake on one
   connection and each request on another, which is not kept.
"""

from __future__ import annotations

from collections.abc import Callable

from ...errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from ..protocol import HttpResponse
from .connect import Route
from .connection import Connection
from .idle import ConnectionLimits, IdleConnections

HANDSHAKES = 2
"""After so many connections in a row that ended with their handshake, the server counts as one of rule 3."""


class Exchange:
    """Sends requests on a route. ``classify`` returns the error that a response means, or None. Safe for threads."""

    def __init__(
        self,
        route: Route,
        limits: ConnectionLimits,
        *,
        capacity: int,
        classify: Callable[[HttpResponse], DeliveryError | None],
        clock: Callable[[], float],
    ) -> None:
        self.route = route
        self._limits = limits
        self._classify = classify
        self._clock = clock
        self._idle = IdleConnections(limits, capacity, clock)
        self._closing_until: float | None = None  # until then, the server is taken for one of rule 3

    def send(self, request: bytes) -> DeliveryError | None:
        """Send a request; return the error for its events. Raises what urllib3, sockets and http.client raise."""
        connection = self._idle.take()
        if connection is not None:
            began = self._clock()
            try:
                return self._exchange(connection, request)
            except OSError:
                if connection.has_responded:
                    raise
                self._idle.discard(used_before=began)
        return self._over_new_connection(request)

    def close(self) -> None:
        """Close the idle connections; those in use are closed after their response."""
        self._idle.close()
        self.route.close()

    def _exchange(self, connection: Connection, request: bytes) -> DeliveryError | None:
        error = self._classify(connection.exchange(request))
        if isinstance(error, UnauthorisedError):
            connection.close()  # the next attempt begins with a handshake
        else:
            self._idle.put(connection)
        return error

    def _connect(self) -> Connection:
        connection = self.route.connect()
        connection.opened = self._clock()
        return connection

    def _over_new_connection(self, request: bytes) -> DeliveryError | None:
        if self.route.handshake is None:
            return self._exchange(self._connect(), request)
        if self._closes_connections:
            self._shake_hands(self.route.handshake).close()
            return self._without_handshake(request)
        for _ in range(HANDSHAKES):
            connection = self._shake_hands(self.route.handshake)
            if not connection.is_open:
                continue
            try:
                return self._exchange(connection, request)
            except TimeoutError:
                raise
            except OSError:
                if connection.has_responded:
                    raise
        return self._without_handshake(request)

    def _shake_hands(self, handshake: bytes) -> Connection:
        """A new connection after its handshake; the server may have closed it. Raises DeliveryError when refused."""
        connection = self._connect()
        error = self._classify(connection.exchange(handshake))
        if error is None:
            return connection
        connection.close()
        if isinstance(error, (RejectedError, TooLargeError)):
            # The handshake was refused, not the event: the event must not become a dead letter.
            raise UnauthorisedError(f"handshake: {error.reason}", status=error.status, body=error.body)
        raise error

    @property
    def _closes_connections(self) -> bool:
        return self._closing_until is not None and self._clock() < self._closing_until

    def _without_handshake(self, request: bytes) -> DeliveryError | None:
        """Send a request on a connection of its own, after the server has accepted the handshake on another one."""
        was_known, self._closing_until = self._closes_connections, None
        connection = self._connect()
        try:
            error = self._classify(connection.exchange(request))
        finally:
            connection.close()
        if isinstance(error, UnauthorisedError) or (isinstance(error, RejectedError) and not was_known):
            # Perhaps only the handshake was missing, for example because the server was restarted.
            return RetryableError(f"without a handshake: {error.reason}", status=error.status, body=error.body)
        self._closing_until = self._clock() + self._limits.max_age
        return error
