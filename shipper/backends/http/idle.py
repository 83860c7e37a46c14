"""The open connections of a backend that carry no request at the moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from ..settings.http_settings import HttpSettings
from .connection import Connection


class ConnectionLimits(NamedTuple):
    """How long a connection may be kept. See `HttpSettings` for the settings; all are seconds."""

    max_idle: float = HttpSettings.max_idle
    max_age: float = HttpSettings.max_age
    keepalive: float = HttpSettings.keepalive

    @classmethod
    def of(cls, backend: Any) -> ConnectionLimits:
        """The limits of a backend; the defaults for attributes that it lacks."""
        given = {name: getattr(backend, name) for name in cls._fields if hasattr(backend, name)}
        return cls(**given)


class IdleConnections:
    """Keeps connections for reuse; the one that was used last is taken first. Safe for several threads.

    A network may drop idle connections without notice, usually all at once. So when one turns out to be dead, `discard`
    closes all that were last used before the failed request.
    """

    def __init__(self, limits: ConnectionLimits, capacity: int, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._connections: list[Connection] = []
        self._is_open = True

    def take(self) -> Connection | None:
        """A connection that is young enough and can be reused; None when there is none."""
        while True:
            with self._lock:
                if not self._connections:
                    return None
                connection = self._connections.pop()
            if self._is_fresh(connection) and connection.is_reusable:
                return connection
            connection.close()

    def _is_fresh(self, connection: Connection) -> bool:
        now = self._clock()
        return now - connection.last_used < self._limits.max_idle and now - connection.opened < self._limits.max_age

    def put(self, connection: Connection) -> None:
        """Keep a connection after its response; close it when there are enough."""
        if not connection.is_open:
            return
        connection.last_used = self._clock()
        with self._lock:
            if self._is_open and len(self._connections) < self._capacity:
                self._connections.append(connection)
                return
        connection.close()

    def discard(self, used_before: float) -> None:
        """Close the idle connections last used at this time of the clock or before."""
        with self._lock:
            doubtful = [each for each in self._connections if each.last_used <= used_before]
            self._connections = [each for each in self._connections if each.last_used > used_before]
        for connection in doubtful:
            connection.close()

    def close(self) -> None:
        """Close all connections, and each that is passed to `put` later."""
        with self._lock:
            self._is_open = False
            closing, self._connections = self._connections, []
        for connection in closing:
            connection.close()
