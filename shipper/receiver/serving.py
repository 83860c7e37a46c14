"""A thread that serves an ASGI application with uvicorn's protocol, on a socket that listens."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ..errors import ConfigurationError
from .connection import Connection


class _Protocol(H11Protocol):
    """uvicorn's protocol; it puts the connection into the state that every request's scope has a copy of."""

    connection: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # A head and a body are two writes: without this the second one waits 40 ms for an ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self.connection = Connection(transport=transport)
        self.app_state = {**self.app_state, "connection": self.connection}

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.gone.set()
        super().connection_lost(exc)


class ServerThread:
    """Serves from `start` until `close`. ``keep_alive`` is how many seconds an idle connection is kept."""

    def __init__(self, application: Any, listening: socket.socket, keep_alive: float) -> None:
        self._application = application
        self._listening = listening
        self._keep_alive = keep_alive
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper-receiver", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._broken: BaseException | None = None

    def start(self) -> None:
        """Return once it answers; raise the error that kept it from starting."""
        self._thread.start()
        self._ready.wait()
        if self._broken is not None:
            self.close()
            raise self._broken

    def close(self) -> None:
        """Stop answering and close the connections. Idempotent."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:
            self._broken = exc
        finally:
            self._listening.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        # Not uvicorn's Server: it installs signal handlers and configures logging. No access log: inside an application
        # that ships to this receiver, the line about a request would be shipped in another request.
        config = Config(
            self._application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        config.timeout_keep_alive = self._keep_alive  # type: ignore[assignment]  # annotated as int, accepts a float
        config.load()
        state = ServerState()
        server = await self._loop.create_server(
            lambda: _Protocol(config, state, {}), sock=self._listening, backlog=1024
        )
        self._ready.set()
        await self._stop.wait()
        server.close()
        for protocol in list(state.connections):
            protocol.transport.abort()
        # Each request, also one that hangs by a fault, notices that its connection is closed.
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=5)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; ``port`` 0 takes any free one. ConfigurationError when the port is taken."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as exc:
        raise ConfigurationError("port", port, f"a free port of {host}, or 0 for any ({exc})") from exc
