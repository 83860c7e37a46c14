"""One POST request in the calling thread, with the standard library only."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ..backends.http import addresses
from ..backends.http.proxies import NEEDS_PYSOCKS, basic_credentials, find_proxy, is_socks
from ..backends.protocol import HttpResponse
from .errors import ApiException

MAX_RESPONSE_BYTES = 64 * 1024
MAX_REDIRECTS = 3
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


def post(url: str, body: bytes, headers: Mapping[str, str], timeout: tuple[float, float]) -> int:
    """Send the request; the status of a successful response. Raises ApiException for everything else.

    ``timeout``: seconds to connect, and seconds until the whole response has arrived. Certificates are verified,
    proxies are those of the environment. Redirects are followed to the same scheme, host and port only: the key is in
    the body. After a 303 the other address is asked for with GET, without the body (RFC 9110, 15.4.4).
    """
    method = "POST"
    for _ in range(MAX_REDIRECTS):
        answer, reason = _exchange(method, url, body, headers, timeout)
        place = urllib.parse.urljoin(url, answer.headers.get("location", ""))
        if answer.status not in _REDIRECT_STATUSES or place == url or _origin(place) != _origin(url):
            break
        url = place
        if answer.status == 303:
            method, body = "GET", b""
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("content-")}
    if 200 <= answer.status < 300:
        return answer.status
    raise ApiException(answer.status, reason, answer.body, answer.headers)


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def _exchange(
    method: str, url: str, body: bytes, headers: Mapping[str, str], timeout: tuple[float, float]
) -> tuple[HttpResponse, str]:
    try:
        route = _route(url, timeout[0])
        with contextlib.closing(route.connection) as connection:
            connection._create_connection = route.connect  # type: ignore[attr-defined]
            connection.connect()
            with _deadline(connection, timeout[1]):
                connection.request(method, route.target, body or None, {**headers, **route.headers})
                response = connection.getresponse()
                text = _body(response).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ApiException(0, f"{type(error).__name__}: {error}") from error
    found = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(response.status, found, text), response.reason


def _connected(place: tuple[str, int], timeout: float, source: None) -> socket.socket:
    """In place of http.client's own function, which gives each of a host's addresses the whole time."""
    return addresses.connect(*place, timeout, ())


def _body(response: http.client.HTTPResponse) -> bytes:
    body = response.read(MAX_RESPONSE_BYTES)
    if response.length and len(body) < MAX_RESPONSE_BYTES:  # http.client returns fewer bytes without an error
        raise http.client.IncompleteRead(body, response.length)
    return body


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """Shut the connection down when the block takes longer: a socket's own timeout restarts with every byte."""
    sock: socket.socket = connection.sock
    sock.settimeout(seconds)
    ended = time.monotonic() + seconds
    cut = threading.Timer(seconds, _cut, (sock,))
    cut.daemon = True
    # No thread available, or the interpreter is ending: only the socket's timeout is left.
    with contextlib.suppress(RuntimeError):
        cut.start()
    try:
        yield
    finally:
        cut.cancel()
        if cut.ident is not None:
            cut.join()
    if time.monotonic() >= ended:  # http.client may take a cut response for a complete one
        raise TimeoutError("the response was not complete in time")


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class _Route(NamedTuple):
    """An unopened connection, the request target for it, and the headers that the way to the server needs."""

    connection: http.client.HTTPConnection
    target: str
    headers: Mapping[str, str]
    connect: Callable[..., socket.socket] = _connected


def _route(url: str, timeout: float) -> _Route:
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    own = _credentials("Authorization", url)
    text = find_proxy(url, os.environ)
    if text is None or is_socks(text):
        connect = _connected if text is None else _through_socks(text)
        if parts.scheme == "https":
            secure = http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=_trust())
            return _Route(secure, path, own, connect)
        return _Route(http.client.HTTPConnection(host, parts.port, timeout=timeout), path, own, connect)
    proxy = urllib.parse.urlsplit(text)
    proxy_host, port = proxy.hostname or "", proxy.port or 80
    proxy_credentials = _credentials("Proxy-Authorization", proxy.geturl())
    if parts.scheme == "https":
        secure = http.client.HTTPSConnection(proxy_host, port, timeout=timeout, context=_trust())
        secure.set_tunnel(host, parts.port, headers=proxy_credentials)
        return _Route(secure, path, own)
    whole = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
    return _Route(http.client.HTTPConnection(proxy_host, port, timeout=timeout), whole, {**own, **proxy_credentials})


def _through_socks(proxy: str) -> Callable[..., socket.socket]:
    try:
        import socks
    except ImportError:
        raise ValueError(NEEDS_PYSOCKS) from None
    parts = urllib.parse.urlsplit(proxy)
    version = parts.scheme.lower()

    def connect(place: tuple[str, int], timeout: float, source: None) -> socket.socket:
        connected: socket.socket = socks.create_connection(
            place,
            timeout,
            proxy_type=socks.SOCKS4 if version.startswith("socks4") else socks.SOCKS5,
            proxy_addr=parts.hostname,
            proxy_port=parts.port or 1080,
            proxy_rdns=version.endswith(("a", "h")),  # the proxy resolves the name
            proxy_username=urllib.parse.unquote(parts.username) if parts.username else None,
            proxy_password=urllib.parse.unquote(parts.password) if parts.password else None,
        )
        return connected

    return connect


def _credentials(header: str, url: str) -> dict[str, str]:
    credentials = basic_credentials(url)
    return {header: credentials} if credentials else {}


def _trust() -> ssl.SSLContext:
    """Trust the certificates in `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, else the system's and certifi's."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if bundle:
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
