"""The running receiver: its services, its store, and the thread that serves them."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from .control.access import Access
from .ending import ending_signals
from .faults import Fault, Faults
from .services.jkool import JKool
from .services.otlp import Otlp
from .services.trakerr import Trakerr
from .serving import ServerThread, listen
from .store.events import MAX_BYTES, Store
from .web import Web

MAX_BODY = 16 * 1024 * 1024
"""The most bytes that one request's body may have, packed or unpacked; more is answered with 413."""


class Receiver:
    """A local stand-in for Trakerr, jKool and an OpenTelemetry collector, with a page that shows what arrived.

    Without ``trakerr_keys`` or ``jkool_tokens`` every key or token that is not empty is accepted. ``port`` 0 takes any
    free one. An idle connection is kept for ``keep_alive`` seconds. Above about ``max_bytes`` of records, the oldest
    are removed. A ``host`` that other machines can reach needs ``allow_remote``; they get the page and the control
    endpoints only with the ``token``, by default a new one, which is in `page_url`.

    It runs from `start` until `close`, or inside ``with``. ConfigurationError when the port is taken, the database
    can't be opened, the token is not valid, or other machines can reach the host without ``allow_remote``.
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
        max_bytes: int = MAX_BYTES,
        keep_alive: float = 300.0,
        allow_remote: bool = False,
        token: str | None = None,
    ) -> None:
        _check_host(host, allow_remote)
        self._host = host
        self._port = port
        self._database = database
        self._services = (Trakerr(trakerr_keys, max_body), JKool(jkool_tokens, max_body), Otlp(max_body))
        self._max_body = max_body
        self._keep_alive = keep_alive
        self._max_bytes = max_bytes
        self._faults = Faults()
        self._store: Store | None = None
        self._server: ServerThread | None = None
        self.token = _checked_token(token) if allow_remote else None

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Return when it answers. Starting it again has no effect; once closed, it stays closed."""
        if self._server is not None:
            return
        # The port first: a second receiver must not touch the first one's database.
        listening = listen(self._host, self._port)
        try:
            self._store = Store(self._database, self._max_bytes)
        except BaseException:
            listening.close()
            raise
        self._port = listening.getsockname()[1]
        access = Access(self.token, self._port)
        web = Web(self._services, self._store, self._faults, max_body=self._max_body, access=access)
        self._server = ServerThread(web, listening, self._keep_alive)
        try:
            self._server.start()
        except BaseException:
            self._store.close()
            raise

    def close(self) -> None:
        """Stop answering, close the connections and the database. Idempotent."""
        if self._server is None or self._store is None:
            return
        self._server.close()
        self._store.close()

    @property
    def url(self) -> str:
        """The address of the page."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def page_url(self) -> str:
        """The page's address for a browser, with the token if there is one; localhost if the host is 0.0.0.0 or ::."""
        if self.token is None:
            return self.url
        host = "localhost" if _is_any(self._host) else urlsplit(self.url).netloc.rpartition(":")[0]
        return f"http://{host}:{self._port}/?token={self.token}"

    @property
    def trakerr_url(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def jkool_url(self) -> str:
        return self.url

    @property
    def otlp_url(self) -> str:
        """The endpoint of the collector; senders add ``/v1/logs`` to it."""
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
        if self._store is not None:
            self._store.changes.tell()

    def recover(self) -> None:
        """Remove all faults that are left."""
        self._faults.clear()
        self._kept.changes.tell()

    def clear(self) -> None:
        """Forget everything that arrived; faults stay."""
        self._kept.clear()

    def requests(self, service: str | None = None, *, failed: bool = False, limit: int = 100) -> list[dict[str, Any]]:
        """The requests to the services, newest first: when each came, how long it took, what was answered and why."""
        return self._kept.records.requests(service, failed=failed, limit=limit)

    @property
    def _kept(self) -> Store:
        if self._store is None:
            raise RuntimeError("the receiver was not started")
        return self._store


def serve(
    host: str = "127.0.0.1",
    port: int = 8787,
    database: str | os.PathLike[str] = ":memory:",
    *,
    trakerr_keys: Collection[str] = (),
    jkool_tokens: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    allow_remote: bool = False,
    token: str | None = None,
    ready: Callable[[Receiver], None] | None = None,
) -> None:
    """Run a receiver until SIGINT or SIGTERM; call ``ready`` with it once it answers. For the main thread only."""
    receiver = Receiver(
        port,
        host=host,
        database=database,
        trakerr_keys=trakerr_keys,
        jkool_tokens=jkool_tokens,
        max_bytes=max_bytes,
        allow_remote=allow_remote,
        token=token,
    )
    with receiver, ending_signals() as wait:
        if ready is not None:
            ready(receiver)
        wait()


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


def _checked_token(token: str | None) -> str:
    if token is None:
        return secrets.token_urlsafe(16)
    # It becomes part of a link and of a cookie.
    if not re.fullmatch(r"[A-Za-z0-9_~.-]{16,200}", token):
        raise ConfigurationError("token", "…", "16 to 200 letters, digits, and _ ~ . -")
    return token


def _is_any(host: str) -> bool:
    """Whether the host stands for every address of the machine."""
    return host in ("", "0.0.0.0", "::")
