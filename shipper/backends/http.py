"""Sends what an `HttpBackend` describes; the only room that knows requests and urllib3.

The pool, TLS and proxies are those of requests' transport adapter. `requests.Session` is left out: it would add
cookies, redirects and netrc, which nobody wants here, and doubles the CPU time of a request.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import math
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import requests
import requests.adapters
import requests.utils
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    IncompleteRead,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import SKIP_HEADER

from ..errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from ..event import Event
from . import Answer, HttpBackend, Site
from .answers import CREDENTIALS, decision

MAX_ANSWER = 64 * 1024
"""The most bytes of an answer's body that are read; a connection with more of them is dropped."""

IDLE = 240.0
"""Seconds without a request after which a connection is opened anew; jKool's server closes its side after 300."""

Greet = Callable[["_Connection", str, Mapping[str, str | bytes]], None]


class Sender:
    """A `Backend` made of an `HttpBackend`: keep-alive connections, one request a send, one answer for all its events.

    Proxies and the CA bundle are read from the environment once, in `open`; the backend's own ``ca_bundle`` wins over
    ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` and ``SSL_CERT_FILE``. Certificates are always verified, redirects never
    followed, and nothing is retried here. `send` may be called by several threads at once.
    """

    def __init__(
        self,
        backend: HttpBackend,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._adapter: _Adapter | None = None
        self._route: _Route | DeliveryError = RetryableError("not opened yet")

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

    def open(self, site: Site) -> None:
        """Settle where requests go and by which way. Connects to nothing, and raises nothing: `send` answers why."""
        with self._lock:
            try:
                self._route = self._found_route(site)
            except Exception as exc:
                self._route = UnauthorisedError(f"no way to {_place(self._backend.endpoint)}: {_inner(exc)}")

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        return self.encode(events)() if events else []

    def encode(self, events: Sequence[Event]) -> Callable[[], Sequence[DeliveryError | None]]:
        """Let the backend make the request; calling what this returns sends it, and gives the answers."""
        route = self._route
        if isinstance(route, DeliveryError):
            return lambda: [route] * len(events)
        refusal: DeliveryError
        try:
            body = self._backend.body(events, route.site)
            headers = {**route.headers, **_encoded(self._backend.request_headers(events))}
        except MemoryError:
            refusal = RetryableError("out of memory")
            return lambda: [refusal] * len(events)
        except Exception as exc:
            refusal = RejectedError(f"{self.name} can't express this event: {type(exc).__name__}: {exc}")
            return lambda: [refusal] * len(events)
        return lambda: [self._exchange(route, headers, body)] * len(events)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their answer is there. May be called twice."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
            self._route = RetryableError("closed")
        if adapter is not None:
            adapter.close()

    def _exchange(self, route: _Route, headers: dict[str, str | bytes], body: bytes) -> DeliveryError | None:
        headers["Content-Length"] = str(len(body))
        try:
            response = route.pool.urlopen(
                "POST",
                route.target,
                body=body,
                headers=headers,  # type: ignore[arg-type] # bytes are fine for http.client
                retries=_NO_RETRIES,
                redirect=False,
                assert_same_host=False,
                timeout=route.timeout,
                preload_content=False,
                decode_content=False,
            )
            answer = _read(response, drop=response.close)
        except DeliveryError as exc:
            return exc
        except Exception as exc:
            return _failure(exc, _place(self._backend.endpoint))
        return self._judged(answer)

    def _judged(self, answer: Answer) -> DeliveryError | None:
        try:
            verdict = self._backend.verdict(answer)
        except Exception as exc:
            return RetryableError(f"{self.name} can't read the answer: {exc}", status=answer.status, body=answer.body)
        return verdict or decision(answer, self._wall_clock())

    def _found_route(self, site: Site) -> _Route:
        endpoint = self._backend.endpoint
        verify = _ca_bundle(getattr(self._backend, "ca_bundle", None), os.environ, site.cwd)
        proxies = requests.utils.get_environ_proxies(endpoint)
        request = requests.PreparedRequest()
        request.prepare("POST", endpoint, headers={}, auth=None)  # takes user:password@ out of the URL
        if self._adapter is not None:
            self._adapter.close()
        self._adapter = adapter = _Adapter(self._backend.max_in_flight, self._connection_classes())
        pool = adapter.get_connection_with_tls_context(request, verify, proxies)
        connect, read = self._backend.timeout
        own = {"User-Agent": SKIP_HEADER, **_basic(request.headers)}
        return _Route(
            site=site,
            pool=pool,
            target=adapter.request_url(request, proxies),
            headers={**own, **_encoded(self._backend.headers(site))},
            timeout=urllib3.Timeout(connect=connect, read=read),
        )

    def _connection_classes(self) -> tuple[type[HTTPConnection], type[HTTPSConnection]]:
        handshake = self._backend.greeting()
        parts = {
            "clock": staticmethod(self._clock),
            "patience": self._backend.timeout[1],
            "greet": None if handshake is None else staticmethod(self._greeting(*handshake)),
        }
        return (
            type("PlainConnection", (_Connection,), parts),
            type("TlsConnection", (_Connection, HTTPSConnection), parts),
        )

    def _greeting(self, headers: Mapping[str, str], body: bytes) -> Greet:
        """What sends the handshake and judges its answer; raises DeliveryError when the service refuses it."""
        own = {"User-Agent": SKIP_HEADER, **_encoded(headers), "Content-Length": str(len(body))}

        def greet(connection: _Connection, target: str, event_headers: Mapping[str, str | bytes]) -> None:
            # For a forwarding proxy, and for a gateway with a password, the first request needs them too.
            passes = {name: value for name, value in event_headers.items() if name.lower() in _PASSES}
            answer = connection.exchange(target, {**passes, **own}, body)
            refusal = self._judged(answer)
            if isinstance(refusal, (RejectedError, TooLargeError)):
                # It is not the event that was refused, so no event may be thrown away for it.
                raise UnauthorisedError(f"handshake: {refusal.reason}", status=refusal.status, body=refusal.body)
            if refusal is not None:
                raise refusal

        return greet


class _Route(NamedTuple):
    """Everything about a request that does not depend on its events."""

    site: Site
    pool: urllib3.HTTPConnectionPool
    target: str
    headers: dict[str, str | bytes]
    timeout: urllib3.Timeout


_NO_RETRIES = urllib3.Retry(0, read=False, redirect=False)
_PASSES = frozenset({"proxy-authorization", "authorization"})


class _TimedResponse(http.client.HTTPResponse):
    """An answer that must be there, whole, when the socket's timeout has passed once; not once for every byte."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        limit = sock.gettimeout()
        deadline = math.inf if limit is None else time.monotonic() + limit
        self._source = _TimedSocket(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._source)

    def _read_status(self) -> tuple[str, int, str]:
        # http.client knows 100 alone; 102 and 103 precede the real answer just so.
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 102 <= found[1] < 200:
                return found
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        super().begin()
        # http.client takes a head that was cut for a whole one.
        if self._source.ended:
            raise http.client.IncompleteRead(b"")


class _TimedSocket(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete in time")
        self._sock.settimeout(min(left, 86_400))
        count = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Connection(HTTPConnection):
    """A connection that greets first, is not used again when it was idle too long, and gives its answers a deadline."""

    clock: Callable[[], float]
    patience: float  # seconds for sending a request, and for its whole answer
    greet: Greet | None

    response_class = _TimedResponse
    _greeted = False
    _used = 0.0

    @property
    def is_connected(self) -> bool:
        # The pool asks before each use, and opens a connection anew (through its proxy, too) that says no.
        return self.clock() - self._used < IDLE and super().is_connected

    def close(self) -> None:
        super().close()
        self._greeted = False

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        if self.sock is None:
            self.connect()
        if self.greet is not None and not self._greeted:
            self.greet(self, url, headers or {})
            if self.sock is None:  # a server of one request a connection: it has accepted us, and sees our key again
                self.connect()
            self._greeted = True
        self._used = self.clock()
        # What is left of the timeout to connect is too short for a large body on a slow line.
        self.timeout = self.patience
        super().request(method, url, body=body, headers=headers, **options)

    def exchange(self, target: str, headers: Mapping[str, str | bytes], body: bytes) -> Answer:
        """One request and its whole answer on this connection alone, past the pool."""
        self.timeout = self.patience
        super().request(
            "POST",
            target,
            body=body,
            headers=headers,  # type: ignore[arg-type] # bytes are fine for http.client
            preload_content=False,
            decode_content=False,
        )
        response = self.getresponse()
        return _read(response, drop=self.close)


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' transport adapter, whose pools make our connections."""

    def __init__(self, size: int, classes: tuple[type[HTTPConnection], type[HTTPSConnection]]) -> None:
        self._plain, self._tls = classes
        super().__init__(pool_connections=1, pool_maxsize=size, max_retries=_NO_RETRIES)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = self._tls if pool.scheme == "https" else self._plain
        return pool


def _read(response: urllib3.BaseHTTPResponse, drop: Callable[[], None]) -> Answer:
    """The answer with at most MAX_ANSWER bytes of its body. Leaves the connection usable, or closed by ``drop``."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.status < 200:
        # The real answer is still to come, and would be taken for that of the next request.
        drop()
        response.release_conn()
        return Answer(response.status, headers, "")
    try:
        body = _bounded_body(response)
    except BaseException:
        drop()
        raise
    if len(body) > MAX_ANSWER:
        drop()
    response.release_conn()
    return Answer(response.status, headers, body[:MAX_ANSWER].decode("utf-8", "replace"))


def _bounded_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """The body, or more than MAX_ANSWER bytes of it."""
    body = b""
    while len(body) <= MAX_ANSWER:
        piece = response.read(MAX_ANSWER + 1 - len(body), decode_content=False)
        body += piece
        if not piece or response.length_remaining == 0:
            break
    return body


def _failure(exc: BaseException, place: str) -> DeliveryError:
    """What an exception of requests, urllib3, http.client, ssl or the operating system means for the event."""
    cause = exc.reason if isinstance(exc, MaxRetryError) and exc.reason is not None else exc
    if isinstance(cause, (LocationValueError, UnicodeError)):
        return UnauthorisedError(f"no such address: {place}: {_inner(cause)}")
    if isinstance(cause, ProxyError):
        return _proxy_failure(cause)
    if isinstance(cause, NameResolutionError):
        return RetryableError(f"{place}: the host's name can't be resolved: {_inner(cause)}")
    if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
        return RetryableError(f"{place}: no connection in time")
    if isinstance(cause, NewConnectionError):
        return RetryableError(f"{place}: no connection: {_inner(cause)}")
    if isinstance(cause, ReadTimeoutError) or isinstance(_innermost(cause), TimeoutError):
        return RetryableError(f"{place}: no whole answer in time")
    if isinstance(cause, (SSLError, ssl.SSLError)):
        return RetryableError(f"{place}: TLS: {_inner(cause)}")
    if isinstance(cause, (IncompleteRead, http.client.IncompleteRead)):
        return RetryableError(f"{place}: the answer was cut")
    if isinstance(cause, ClosedPoolError):
        return RetryableError("closed")
    return RetryableError(f"{place}: {_inner(cause)}")


def _proxy_failure(exc: ProxyError) -> DeliveryError:
    reason = f"proxy: {_inner(exc)}"
    status = re.search(r"Tunnel connection failed: (\d{3})", reason)
    if status and int(status[1]) in CREDENTIALS:
        return UnauthorisedError(reason, status=int(status[1]))
    return RetryableError(reason)


def _inner(exc: BaseException) -> str:
    """The exception that started it, in a line; what is around it only repeats the address."""
    inner = _innermost(exc)
    text = f"{type(inner).__name__}: {inner}"[:300]
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def _innermost(exc: BaseException) -> BaseException:
    seen = {id(exc)}
    while (cause := _cause(exc)) is not None and id(cause) not in seen:
        seen.add(id(cause))
        exc = cause
    return exc


def _cause(exc: BaseException) -> BaseException | None:
    if exc.__cause__ is not None:
        return exc.__cause__
    return next((each for each in exc.args if isinstance(each, BaseException)), None)


def _place(url: str) -> str:
    """Scheme, host and port of an address, without credentials."""
    with contextlib.suppress(ValueError):
        parts = urllib3.util.parse_url(url)
        return parts._replace(auth=None, path=None, query=None, fragment=None).url
    return "the address"


def _ca_bundle(own: str | None, environ: Mapping[str, str], cwd: str) -> str:
    named = [own, *(environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"))]
    # Seen from where the application works: the shipper process works elsewhere.
    found = os.path.join(cwd, next(filter(None, named), requests.utils.DEFAULT_CA_BUNDLE_PATH))
    if not os.path.exists(found):
        raise FileNotFoundError(f"no CA certificates at {found}")
    return found


def _basic(headers: Mapping[str, str]) -> dict[str, str | bytes]:
    return {name: value for name, value in headers.items() if name.lower() == "authorization"}


def _encoded(headers: Mapping[str, str]) -> dict[str, str | bytes]:
    """http.client takes text as Latin-1 and fails for the rest; ours travels as UTF-8."""
    return {name: value.encode() for name, value in headers.items()}
