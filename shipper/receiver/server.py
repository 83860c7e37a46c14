"""The running receiver: a socket, a thread that serves it with uvicorn's protocol, and the store."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ..errors import ConfigurationError
from .connection import Connection
from .faults import Fault, Faults
from .jkool import JKool
from .otlp import Otlp
from .store import Store
from .trakerr import Trakerr
from .web import Web

MAX_BODY = 16 * 1024 * 1024
"""The most bytes that one request's body has, packed and unpacked; more is answered with 413."""


class _Protocol(H11Protocol):
    """uvicorn's protocol; it puts the connection into the state that every request's scope has a copy of."""

    connection: Connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # A head and a body are two writes: without this the second one waits 40 ms for an ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self.connection = Connection(transport)
        self.app_state = {**self.app_state, "connection": self.connection}

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.gone.set()
        super().connection_lost(exc)


class Receiver:
    """A local stand-in for Trakerr, jKool and an OpenTelemetry collector, with a page that shows what arrived.

    Without ``trakerr_keys`` or ``jkool_tokens`` every key or token that is not empty is accepted. ``port`` 0 takes any
    free one. ``keep_alive`` is how many seconds an idle connection is kept. The page and the control endpoints answer
    only to this machine, whatever ``host`` is; a host that others can reach needs ``allow_remote``.

    It runs from `start` until `close`, or inside ``with``. Raises ConfigurationError when the port is taken, the host
    is not this machine, or the database can't be opened.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        database: str | os.PathLike[str] = ":memory:",
        trakerr_keys: Collection[str] = (),
        jkool_tokens: Collection[str] = (),
        max_body: int = MAX_BODY,
        keep_alive: float = 300.0,
        allow_remote: bool = False,
    ) -> None:
        _check_host(host, allow_remote)
        self._host = host
        self._port = port
        self._database = database
        self._services = (Trakerr(trakerr_keys, max_body), JKool(jkool_tokens, max_body), Otlp(max_body))
        self._max_body = max_body
        self._keep_alive = keep_alive
        self._faults = Faults()
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._broken: BaseException | None = None

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Return when it answers. Starting it again has no effect; once closed, it stays closed."""
        if self._thread is not None:
            return
        # The port first: a second receiver must not touch the first one's database.
        listening = _listen(self._host, self._port)
        try:
            self._store = Store(self._database)
        except BaseException:
            listening.close()
            raise
        self._port = listening.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(listening, ready), name="shipper-receiver", daemon=True)
        self._thread.start()
        ready.wait()
        if self._broken is not None:
            self.close()
            raise self._broken

    def close(self) -> None:
        """Stop answering, close the connections and the database. Idempotent."""
        if self._thread is None or self._store is None:
            return
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._store.close()

    @property
    def url(self) -> str:
        """The address of the page."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def trakerr_url(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def jkool_url(self) -> str:
        return self.url

    @property
    def otlp_url(self) -> str:
        """What a collector's endpoint is; ``/v1/logs`` is added by who sends."""
        return self.url

    def counts(self) -> dict[str, dict[str, int]]:
        """By service: requests, events (duplicates included), keys (distinct), duplicates, failed (requests)."""
        return self._kept.counts()

    def keys(self, service: str | None = None) -> list[str]:
        """The distinct keys that arrived, of one service or of all."""
        return self._kept.keys(service)

    def events(
        self,
        service: str | None = None,
        *,
        text: str = "",
        level: str = "",
        after: int | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """What `Store.events` lists, with each body as the object that was sent."""
        found = self._kept.events(service, text=text, level=level, after=after, limit=limit)
        return [{**event, "body": json.loads(event["body"])} for event in found]

    def fail(
        self,
        service: str | None = None,
        *,
        status: int | None = None,
        retry_after: str | None = None,
        delay: float = 0.0,
        hang: bool = False,
        reset: bool = False,
        half: bool = False,
        accept: bool = False,
        count: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Append a `Fault` to the list."""
        self._faults.add(
            [
                Fault(
                    service=service,
                    status=status,
                    retry_after=retry_after,
                    delay=delay,
                    hang=hang,
                    reset=reset,
                    half=half,
                    accept=accept,
                    count=count,
                    seconds=seconds,
                )
            ]
        )

    def recover(self) -> None:
        """Remove all faults that are left."""
        self._faults.clear()

    @property
    def _kept(self) -> Store:
        if self._store is None:
            raise RuntimeError("the receiver was not started")
        return self._store

    def _run(self, listening: socket.socket, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(listening, ready))
        except BaseException as exc:
            self._broken = exc
        finally:
            listening.close()
            ready.set()

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        web = Web(self._services, self._kept, self._faults, max_body=self._max_body)
        # Not uvicorn's Server: it installs signal handlers and configures logging.
        config = Config(web, http="h11", ws="none", lifespan="off", log_config=None, proxy_headers=False)
        config.timeout_keep_alive = self._keep_alive  # type: ignore[assignment]  # annotated as int, accepts a float
        config.load()
        state = ServerState()
        server = await self._loop.create_server(lambda: _Protocol(config, state, {}), sock=listening, backlog=1024)
        ready.set()
        await self._stop.wait()
        server.close()
        for protocol in list(state.connections):
            protocol.transport.abort()
        # Each request notices that its connection is closed, a hanging one too.
        if state.tasks:
            await asyncio.wait(list(state.tasks), timeout=5)


def serve(
    host: str = "127.0.0.1",
    port: int = 8787,
    database: str | os.PathLike[str] = ":memory:",
    *,
    trakerr_keys: Collection[str] = (),
    jkool_tokens: Collection[str] = (),
    allow_remote: bool = False,
    ready: Callable[[Receiver], None] | None = None,
) -> None:
    """Run a receiver until SIGINT or SIGTERM; call ``ready`` with it once it answers. For the main thread only."""
    stop = threading.Event()
    receiver = Receiver(
        port,
        host=host,
        database=database,
        trakerr_keys=trakerr_keys,
        jkool_tokens=jkool_tokens,
        allow_remote=allow_remote,
    )
    with receiver:
        before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if ready is not None:
                ready(receiver)
            stop.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _check_host(host: str, allow_remote: bool) -> None:
    if allow_remote or host == "localhost":
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise ConfigurationError(
        "host", host, "an address of this machine only, such as 127.0.0.1; others need allow_remote"
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as exc:
        raise ConfigurationError("port", port, f"a free port of {host}, or 0 for any ({exc})") from exc
