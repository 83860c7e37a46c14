"""A small real HTTP/1.1 server that keeps what it gets, byte for byte, and answers as the test tells it to."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .waiting import PATIENCE, wait_until


class Request(NamedTuple):
    """One request as it arrived."""

    head: bytes  # request line and headers, without the empty line
    body: bytes

    @property
    def line(self) -> str:
        return self.head.partition(b"\r\n")[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with lower-case names and values decoded as UTF-8."""
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return {name.decode("latin-1").lower(): value.strip().decode("utf-8", "replace") for name, _, value in pairs}


@dataclass(frozen=True)
class Reply:
    """One scripted answer.

    ``raw`` is sent as it stands in place of an answer made of status, headers and body. ``then``: "keep" the
    connection, "close" it, "reset" it (TCP RST), or "hang": send nothing more until the server closes.
    Nothing at all is sent with ``silent``.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    raw: bytes | None = None
    then: str = "keep"
    silent: bool = False

    def encoded(self) -> bytes:
        if self.silent:
            return b""
        if self.raw is not None:
            return self.raw
        names = {name.lower() for name in self.headers}
        lines = [f"HTTP/1.1 {self.status} Reason"]
        if "content-length" not in names and "transfer-encoding" not in names:
            lines.append(f"Content-Length: {len(self.body)}")
        if self.then == "close":
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + self.body


HANG = Reply(silent=True, then="hang")
RESET = Reply(silent=True, then="reset")
CLOSE = Reply(silent=True, then="close")
HALF = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", then="close")

Answer = Callable[[Request], "Reply | None"]
"""Called for each request; None stands for the default answer."""


class Server:
    """Listens on a port of 127.0.0.1 as long as its ``with`` lasts; a thread for each connection.

    ``answers``: replies for the first requests, in the order in which they arrive, then ``default``; or a function of
    the request. With ``context`` it speaks TLS. A ``CONNECT`` is answered with 200, and what follows on that
    connection is served like any other (with ``tunnel_context`` as TLS), so it is a proxy and the server behind it.
    """

    def __init__(
        self,
        answers: Answer | Iterable[Reply] = (),
        *,
        default: Reply = Reply(),
        context: ssl.SSLContext | None = None,
        tunnel_context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self._answer = answers if callable(answers) else None
        self._script: Iterator[Reply] = iter(() if callable(answers) else answers)
        self._default = default
        self._context = context
        self._tunnel_context = tunnel_context
        self._port = port
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self.connections: list[list[Request]] = []  # the requests of each connection, in order of their opening
        self.requests: list[Request] = []  # all of them, in order of arrival

    def __enter__(self) -> Server:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing.set()
        _shut(self._listener)
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            _shut(each)
        while self._threads:
            self._threads.pop().join(PATIENCE)

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]

    def wait_for(self, count: int, timeout: float = 10.0) -> None:
        """Return when ``count`` requests have arrived; AssertionError when they don't in time."""
        wait_until(lambda: len(self.requests) >= count, timeout, f"{count} requests, got {len(self.requests)}")

    def drop_connections(self) -> None:
        """Close every connection from this side, as a server does with idle ones."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            _shut(each)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="test server", daemon=True)
        thread.start()
        self._threads.append(thread)  # only now: `__exit__` joins the threads of this list

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(connection)
                requests: list[Request] = []
                self.connections.append(requests)
            self._start(self._serve, connection, requests)

    def _serve(self, connection: socket.socket, requests: list[Request]) -> None:
        with contextlib.suppress(OSError, ValueError):
            wrapped = self._wrapped(connection, self._context)
            try:
                self._talk(wrapped, requests)
            finally:
                _shut(wrapped)
        _shut(connection)

    def _wrapped(self, connection: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
        if context is None:
            return connection
        wrapped = context.wrap_socket(connection, server_side=True)
        with self._lock:
            self._sockets.append(wrapped)
        return wrapped

    def _talk(self, connection: socket.socket, requests: list[Request]) -> None:
        stream = connection.makefile("rb")
        with stream:
            while (request := _next_request(stream)) is not None:
                with self._lock:
                    requests.append(request)
                    self.requests.append(request)
                if request.method == "CONNECT":
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    self._talk(self._wrapped(connection, self._tunnel_context), requests)
                    return
                reply = self._reply(request)
                connection.sendall(reply.encoded())
                if reply.then == "hang":
                    self._closing.wait()
                if reply.then == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    stream.close()
                    connection.close()
                if reply.then != "keep":
                    return

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            found = next(self._script, None) if self._answer is None else self._answer(request)
        return self._default if found is None else found


_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)


def _next_request(stream: Iterable[bytes]) -> Request | None:
    """The next request, or None at the end of the connection."""
    head = b""
    for line in stream:
        head += line
        if head.endswith(b"\r\n\r\n"):
            break
    if not head.endswith(b"\r\n\r\n"):
        return None
    found = _LENGTH.search(head.replace(b"\r\n", b"\n"))
    length = int(found[1]) if found else 0
    body = stream.read(length) if length else b""  # type: ignore[attr-defined]
    return Request(head[:-4], body) if len(body) == length else None  # its client was killed in the middle


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
