"""Sends what an `HttpBackend` describes; the only room that knows requests and urllib3.

They find the way and open connections: pools, TLS and proxies are those of requests' transport adapter. What then
happens on a connection is `exchange.py`'s. `requests.Session` is left out: it would add cookies, redirects and netrc,
which nobody wants here.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
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
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from ...errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from ...event.model import Event
from ..deprecated import with_current_names
from ..protocol import AppContext, HttpBackend, HttpResponse
from .connection import Line
from .status import CREDENTIALS, decision

IDLE = 240.0
"""Seconds without a request after which a connection is opened anew; jKool's server closes its side after 300."""


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
        self._backend = with_current_names(backend)
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

    def open(self, context: AppContext) -> None:
        """Settle where requests go and by which way. Connects to nothing, and raises nothing: `send` answers why."""
        with self._lock:
            try:
                self._route = self._found_route(context)
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
            body = self._backend.body(events, route.context)
            request = _whole(route.head_with(self._backend.request_headers(events)), body)
        except MemoryError:
            refusal = RetryableError("out of memory")
            return lambda: [refusal] * len(events)
        except Exception as exc:
            refusal = RejectedError(f"{self.name} can't express this event: {type(exc).__name__}: {exc}")
            return lambda: [refusal] * len(events)
        return lambda: [self._exchange(route, request)] * len(events)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their answer is there. May be called twice."""
        with self._lock:
            self._leave()
            self._route = RetryableError("closed")

    def _leave(self) -> None:
        if isinstance(self._route, _Route):
            while self._route.idle:
                self._route.idle.pop().close()
        if self._adapter is not None:
            self._adapter.close()
        self._adapter = None

    def _exchange(self, route: _Route, request: bytes) -> DeliveryError | None:
        try:
            line = self._idle(route) or self._greeted(route)
            answer = line.exchange(request)
        except DeliveryError as exc:
            return exc
        except Exception as exc:
            return _failure(exc, _place(self._backend.endpoint))
        self._keep(line, route)
        return self._judged(answer)

    def _judged(self, answer: HttpResponse) -> DeliveryError | None:
        try:
            classify_response = self._backend.classify_response(answer)
        except Exception as exc:
            return RetryableError(f"{self.name} can't read the answer: {exc}", status=answer.status, body=answer.body)
        return classify_response or decision(answer, self._wall_clock())

    # -- connections -------------------------------------------------------------------------------------------------

    def _idle(self, route: _Route) -> Line | None:
        """The connection that was used last, when it can be used again."""
        try:
            line = route.idle.pop()
        except IndexError:
            return None
        if self._clock() - line.used < IDLE and line.is_quiet:
            return line
        line.close()
        return None

    def _keep(self, line: Line, route: _Route) -> None:
        if not line.is_open:
            return
        line.used = self._clock()
        with self._lock:
            if self._route is route and len(route.idle) < self._backend.max_in_flight:
                route.idle.append(line)
                return
        line.close()

    def _greeted(self, route: _Route) -> Line:
        """A new connection, after its handshake. Raises DeliveryError when the service refuses that."""
        line = route.open()
        if route.handshake_request is None:
            return line
        refusal = self._judged(line.exchange(route.handshake_request))
        if refusal is None:
            # A server of one request a connection has accepted us too, and sees our key again.
            return line if line.is_open else route.open()
        line.close()
        if isinstance(refusal, (RejectedError, TooLargeError)):
            # It is not the event that was refused, so no event may be thrown away for it.
            raise UnauthorisedError(f"handshake: {refusal.reason}", status=refusal.status, body=refusal.body)
        raise refusal

    def _found_route(self, context: AppContext) -> _Route:
        endpoint = self._backend.endpoint
        verify = _ca_bundle(getattr(self._backend, "ca_bundle", None), os.environ, context.cwd)
        proxies = requests.utils.get_environ_proxies(endpoint)
        request = requests.PreparedRequest()
        request.prepare("POST", endpoint, headers={}, auth=None)  # takes user:password@ out of the URL
        self._leave()
        self._adapter = adapter = _Adapter(pool_connections=1, pool_maxsize=1, max_retries=_NO_RETRIES)
        pool = adapter.get_connection_with_tls_context(request, verify, proxies)
        target = adapter.request_url(request, proxies)
        # A forwarding proxy, and a gateway with a password, want them with every request, also with the handshake.
        passes = {**_basic(request.headers), **({} if target.startswith("/") else pool.proxy_headers)}
        headers = {**passes, **self._backend.headers(context)}
        spelling = _Spelling(pool, target)
        return _Route(
            context=context,
            pool=pool,
            target=target,
            timeout=self._backend.timeout,
            headers=headers,
            taken=frozenset({"host", "accept-encoding", *map(str.lower, headers)}),
            head=spelling.head(headers),
            handshake_request=_greeting(spelling, passes, self._backend.handshake_request()),
            idle=[],
        )


class _Route(NamedTuple):
    """Everything about a request that does not depend on its events, and the connections that wait for one."""

    context: AppContext
    pool: urllib3.HTTPConnectionPool
    target: str
    timeout: tuple[float, float]
    headers: dict[str, str]
    taken: frozenset[str]  # names of headers that a head has once
    head: bytes
    handshake_request: bytes | None
    idle: list[Line]

    def head_with(self, own: Mapping[str, str]) -> bytes:
        """The head of a request that has headers of its own, up to its length. ValueError when one can't be."""
        given = {name.lower() for name in own}
        if given.isdisjoint(self.taken):
            return self.head + b"".join(map(_header, own.items())) if own else self.head
        shared = {name: value for name, value in self.headers.items() if name.lower() not in given}
        return _Spelling(self.pool, self.target).head({**shared, **own})

    def open(self) -> Line:
        """A new connection."""
        connect, patience = self.timeout
        # Only by way of a request does a pool connect, through proxies too, and say what failed.
        response = self.pool.urlopen(
            "POST",
            self.target,
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            timeout=urllib3.Timeout(connect=connect, read=patience),
            preload_content=False,
        )
        assert isinstance(response, _Opened)
        return Line(response.by.sock, patience, response.by.close)


_NO_RETRIES = urllib3.Retry(0, read=False, redirect=False)


def _greeting(
    spelling: _Spelling, passes: Mapping[str, str], handshake: tuple[Mapping[str, str], bytes] | None
) -> bytes | None:
    if handshake is None:
        return None
    headers, body = handshake
    return _whole(spelling.head({**passes, **headers}), body)


def _whole(head: bytes, body: bytes) -> bytes:
    """A request, of a head that lacks its end."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


class _Spelling(HTTPConnection):
    """Spells the heads of requests as http.client does: its line, Host, checked headers. Connects to nothing."""

    def __init__(self, pool: urllib3.HTTPConnectionPool, target: str) -> None:
        super().__init__(pool.host, pool.port)
        self.default_port = 443 if pool.scheme == "https" else 80  # type: ignore[misc]
        self._target = target if target.startswith("/") else urllib3.util.parse_url(target).url
        self._spelled = b""

    def send(self, data: Any) -> None:
        self._spelled = data

    def head(self, headers: Mapping[str, str]) -> bytes:
        """A head without its last, empty line. ValueError when a header can't be one."""
        given = {name.lower() for name in headers}
        self.putrequest(
            "POST", self._target, skip_host="host" in given, skip_accept_encoding="accept-encoding" in given
        )
        for name, value in headers.items():
            self.putheader(name, value.encode())  # type: ignore[arg-type] # text would go as Latin-1; ours is UTF-8
        self.endheaders()
        self.close()
        return self._spelled.removesuffix(b"\r\n")


def _header(header: tuple[str, str]) -> bytes:
    """The line of a header that is of one request alone."""
    name, value = header
    if not _NAME.fullmatch(name) or _ENDS.search(value):
        raise ValueError(f"no header: {name!r}: {value!r}")
    return b"%b: %b\r\n" % (name.encode(), value.encode())


_NAME = re.compile(r"[!-9;-~]+")
_ENDS = re.compile(r"[\r\n\0]")


class _Opened(urllib3.HTTPResponse):
    """No answer: says which connection was opened."""

    def __init__(self, by: HTTPConnection) -> None:
        super().__init__(status=200, preload_content=False)
        self.by = by

    def close(self) -> None:
        """The connection goes on without it."""


class _Connection(HTTPConnection):
    """Connects, and leaves it at that."""

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is None:
            self.connect()

    def getresponse(self) -> _Opened:  # type: ignore[override]
        return _Opened(self)


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' transport adapter, whose pools make our connections."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _TlsConnection if pool.scheme == "https" else _Connection
        return pool


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
    if isinstance(cause, http.client.IncompleteRead):
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


def _basic(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() == "authorization"}
