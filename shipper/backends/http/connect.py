"""Opens connections: proxies, TLS and pools are those of requests' transport adapter.

`requests.Session` is not used: it would add cookies, redirects and netrc. What happens on an open connection is in
`connection`.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NameResolutionError, NewConnectionError

from ..protocol import AppContext, HttpBackend
from . import addresses, head
from .connection import Connection
from .failure import SetupError
from .head import RequestHeadBuilder
from .idle import ConnectionLimits
from .proxies import NEEDS_PYSOCKS, basic_credentials, find_proxy, is_socks, without_credentials
from .tls import Tls, find_ca_certificates

_NO_RETRIES = urllib3.Retry(0, read=False, redirect=False)


class Route(NamedTuple):
    """What all requests of an open backend share: where they go, by which proxy, and the constant part of their head.

    ``taken``: lower-case names of the headers in ``head``; a request's own headers replace them. ``handshake``: the
    first request of every connection, or None.
    """

    context: AppContext
    adapter: requests.adapters.HTTPAdapter
    pool: urllib3.HTTPConnectionPool
    tls: Tls | None
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
        if self.tls is not None:
            self.pool.conn_kw["ssl_context"] = self.tls.context()
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
    """Make the route to a backend's endpoint, with proxies and CA certificates of the environment. Does not connect."""
    url = without_credentials(backend.endpoint)
    proxy = find_proxy(url, os.environ)
    tls = _tls(backend, context, url, proxy)
    request = requests.PreparedRequest()
    request.prepare("POST", url, headers={}, auth=None)
    adapter = _Adapter(tls, proxy or "")
    proxies = {"all": proxy} if proxy else {}
    pool = adapter.get_connection_with_tls_context(request, True, proxies)
    pool.conn_kw["socket_options"] = _socket_options(ConnectionLimits.of(backend).keepalive)
    target = adapter.request_url(request, proxies)
    # A forwarding proxy, and an endpoint with a password in its URL, need credentials in every request and handshake.
    credentials = {**_authorization(backend.endpoint), **({} if target.startswith("/") else pool.proxy_headers)}
    headers = {**credentials, **backend.headers(context)}
    builder = RequestHeadBuilder(pool, target)
    return Route(
        context=context,
        adapter=adapter,
        pool=pool,
        tls=tls if pool.scheme == "https" else None,
        target=target,
        timeout=backend.timeout,
        headers=headers,
        taken=frozenset({"host", "accept-encoding", *map(str.lower, headers)}),
        head=builder.build(headers),
        handshake=_handshake(builder, credentials, backend.handshake_request()),
    )


def _tls(backend: HttpBackend, context: AppContext, url: str, proxy: str | None) -> Tls | None:
    """TLS of the endpoint or of the proxy; None when neither has it."""
    if not any(each.lower().startswith("https:") for each in (url, proxy or "")):
        return None
    trusted = find_ca_certificates(getattr(backend, "ca_bundle", None), os.environ, context.cwd)
    return Tls(trusted, getattr(backend, "client_cert", None) if url.lower().startswith("https:") else None)


def _authorization(url: str) -> dict[str, str]:
    credentials = basic_credentials(url)
    return {"Authorization": credentials} if credentials else {}


def _socket_options(keepalive: float) -> list[tuple[int, int, int]]:
    """Send each request at once; probe an idle connection, and end it after three probes without an answer."""
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


class _Connected(urllib3.HTTPResponse):
    """Stands for a response, and has the connection that was opened."""

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


class _AnyAddress(HTTPConnection):
    """Connects to the first address that answers, within the time limit."""

    def _new_conn(self) -> socket.socket:
        try:
            self._dns_host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"{self._dns_host!r}, a label is empty or too long") from None
        assert isinstance(self.timeout, (int, float))
        try:
            return addresses.connect(self._dns_host, self.port, self.timeout, self.socket_options or ())
        except socket.gaierror as exc:
            raise NameResolutionError(self.host, self, exc) from exc
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, f"{self.host}: {exc}") from exc
        except OSError as exc:
            raise NewConnectionError(self, f"{self.host}: {exc}") from exc


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' transport adapter with pools that only connect."""

    def __init__(self, tls: Tls | None, proxy: str) -> None:
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=_NO_RETRIES)
        self._tls = tls
        # PySocks connects by itself.
        self._steps = (_ConnectOnly,) if is_socks(proxy) else (_ConnectOnly, _AnyAddress)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = type("Connection", (*self._steps, pool.ConnectionCls), {})
        return pool

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if is_socks(proxy) and importlib.util.find_spec("socks") is None:
            raise SetupError(NEEDS_PYSOCKS)
        if proxy.lower().startswith("https:") and self._tls is not None:
            options["proxy_ssl_context"] = self._tls.context()
        return super().proxy_manager_for(proxy, **options)

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        credentials = basic_credentials(proxy)
        return {"Proxy-Authorization": credentials} if credentials else {}
