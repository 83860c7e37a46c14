"""Opens connections: proxies, TLS and pools are those of requests' transport adapter.

`requests.Session` is not used: it would add cookies, redirects and netrc. What happens on an open connection is in
`connection`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
import requests.adapters
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..protocol import AppContext, HttpBackend
from . import head
from .connection import Connection
from .head import RequestHeadBuilder
from .idle import ConnectionLimits

_NO_RETRIES = urllib3.Retry(0, read=False, redirect=False)


class Route(NamedTuple):
    """What all requests of an open backend share: where they go, by which proxy, and the constant part of their head.

    ``taken``: lower-case names of the headers that may stand in a head only once. ``handshake``: the first request of
    every connection, or None.
    """

    context: AppContext
    adapter: requests.adapters.HTTPAdapter
    pool: urllib3.HTTPConnectionPool
    target: str
    timeout: tuple[float, float]
    headers: dict[str, str]
    taken: frozenset[str]
    head: bytes
    handshake: bytes | None

    def request(self, own: Mapping[str, str], body: bytes) -> bytes:
        """A request with headers of its own. Raises ValueError for a wrong header."""
        return head.request(self._head_with(own), body)

    def _head_with(self, own: Mapping[str, str]) -> bytes:
        given = {name.lower() for name in own}
        if given.isdisjoint(self.taken):
            return self.head + head.lines(own.items()) if own else self.head
        shared = {name: value for name, value in self.headers.items() if name.lower() not in given}
        return RequestHeadBuilder(self.pool, self.target).build({**shared, **own})

    def connect(self) -> Connection:
        """Open a connection, without a handshake. Raises what urllib3 raises."""
        connect, read = self.timeout
        # A pool connects, through proxies too, only as part of a request.
        response = self.pool.urlopen(
            "POST",
            self.target,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=connect, read=read),
            preload_content=False,
        )
        assert isinstance(response, _Connected)
        return Connection(response.by.sock, read, response.by.close)

    def close(self) -> None:
        self.adapter.close()


def find_route(backend: HttpBackend, context: AppContext) -> Route:
    """Find the way to a backend's endpoint, by the environment's proxies and CA certificates. Connects to nothing."""
    endpoint = backend.endpoint
    verify = _ca_bundle(getattr(backend, "ca_bundle", None), os.environ, context.cwd)
    proxies = requests.utils.get_environ_proxies(endpoint)
    request = requests.PreparedRequest()
    request.prepare("POST", endpoint, headers={}, auth=None)  # moves user:password@ from the URL to a header
    adapter = _Adapter(pool_connections=1, pool_maxsize=1, max_retries=_NO_RETRIES)
    pool = adapter.get_connection_with_tls_context(request, verify, proxies)
    pool.conn_kw["socket_options"] = _socket_options(ConnectionLimits.of(backend).keepalive)
    target = adapter.request_url(request, proxies)
    # A forwarding proxy, and a gateway with a password, need them with every request, with the handshake too.
    credentials = {**_authorization(request.headers), **({} if target.startswith("/") else pool.proxy_headers)}
    headers = {**credentials, **backend.headers(context)}
    builder = RequestHeadBuilder(pool, target)
    return Route(
        context=context,
        adapter=adapter,
        pool=pool,
        target=target,
        timeout=backend.timeout,
        headers=headers,
        taken=frozenset({"host", "accept-encoding", *map(str.lower, headers)}),
        head=builder.build(headers),
        handshake=_handshake(builder, credentials, backend.handshake_request()),
    )


def _socket_options(keepalive: float) -> list[tuple[int, int, int]]:
    """Send each request at once; find a connection whose other side is gone by three probes without an answer."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if keepalive:
        interval = max(1, round(keepalive))
        options += [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, interval // 3)),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
    return options


def _handshake(
    builder: RequestHeadBuilder, credentials: Mapping[str, str], request: tuple[Mapping[str, str], bytes] | None
) -> bytes | None:
    if request is None:
        return None
    headers, body = request
    return head.request(builder.build({**credentials, **headers}), body)


def _authorization(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() == "authorization"}


def _ca_bundle(own: str | None, environ: Mapping[str, str], cwd: str) -> str:
    named = [own, *(environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))]
    # Relative to the application's working directory: the shipper process has another.
    found = os.path.join(cwd, next(filter(None, named), requests.utils.DEFAULT_CA_BUNDLE_PATH))
    if not os.path.exists(found):
        raise FileNotFoundError(f"no CA certificates at {found}")
    return found


class _Connected(urllib3.HTTPResponse):
    """Not a response: tells which connection was opened."""

    def __init__(self, by: HTTPConnection) -> None:
        super().__init__(status=200, preload_content=False)
        self.by = by

    def close(self) -> None:
        """Leave the connection open: it is used without this response."""


class _ConnectOnly(HTTPConnection):
    """Connects when a request is made, and sends nothing."""

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is None:
            self.connect()

    def getresponse(self) -> _Connected:  # type: ignore[override]
        return _Connected(self)


class _TlsConnectOnly(_ConnectOnly, HTTPSConnection):
    pass


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' transport adapter with pools that only connect."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _TlsConnectOnly if pool.scheme == "https" else _ConnectOnly
        return pool
