"""One request and its whole response on an open connection.

This runs for every request, so the usual case is cheap: a request is one `sendall`, and a usual response is one `recv`
and two regular expressions, which takes a tenth of the CPU time of http.client and urllib3. `http.client` reads every
other response, from its first byte.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from ..protocol import HttpResponse

MAX_BODY_BYTES = 64 * 1024
"""The most bytes that are read of a response's body; after a longer one the connection is closed."""

READ_BYTES = 16 * 1024  # in one recv
LONGEST_TIMEOUT = 86_400.0  # seconds; sockets refuse numbers that are much larger


class Connection:
    """An open connection for one request after the other.

    ``timeout``: seconds to send a request, and as many to read its whole response. The function ``close`` is called by
    each call of the method `close`; both may be called again.
    """

    def __init__(self, sock: socket.socket, timeout: float, close: Callable[[], None]) -> None:
        self.is_open = True
        self.opened = self.last_used = 0.0  # times of the caller's clock, set by the caller
        self.has_responded = False  # bytes of a response to the last request were received
        self._sock = sock
        self._timeout = min(timeout, LONGEST_TIMEOUT)
        self._close = close
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._decrypted: Callable[[], int] = getattr(sock, "pending", int)  # how many bytes TLS has decrypted already
        sock.settimeout(self._timeout)

    @property
    def is_reusable(self) -> bool:
        """Whether the server has neither closed the connection nor sent bytes that belong to no request."""
        return not self._poller.poll(0) and not self._decrypted()

    def close(self) -> None:
        self.is_open = False
        self._close()

    def exchange(self, request: bytes) -> HttpResponse:
        """Send a request and return its response; closes the connection unless it can carry another request.

        Raises OSError (with ssl.SSLError and TimeoutError) and http.client.HTTPException.
        """
        self.has_responded = False
        try:
            self._send(request)
            return self._response()
        except BaseException:
            self.close()
            raise

    def _send(self, request: bytes) -> None:
        # A server may respond, or send a TLS alert, and close before it has read the whole request.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._sock.sendall(request)

    def _response(self) -> HttpResponse:
        deadline = time.monotonic() + self._timeout
        received = self._sock.recv(READ_BYTES)
        self.has_responded = received != b""
        response = parse_simple_response(received)
        if response is None:
            response = self._read_by_http_client(received, deadline)
            if self.is_open:
                self._sock.settimeout(self._timeout)
        return response

    def _read_by_http_client(self, received: bytes, deadline: float) -> HttpResponse:
        response = _Response(BufferedSocket(received, self._sock, deadline))
        response.begin()
        if response.status < 200:
            # The final response is still to come and would be taken for that of the next request.
            self.close()
            return HttpResponse(response.status, _lowered(response.headers), "")
        body = response.bounded_body()
        if response.will_close or response.has_trailing_bytes or len(body) > MAX_BODY_BYTES:
            self.close()
        body = body[:MAX_BODY_BYTES]
        return HttpResponse(response.status, _lowered(response.headers), body.decode("utf-8", "replace"), body)


_SIMPLE = re.compile(rb"HTTP/1\.1 ([2-9][0-9][0-9])(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)+)\r\n")
_HEADER = re.compile(r"([^:]+):[ \t]*([^\r]*)\r\n")
_MOST_HEADERS = 99  # http.client takes no more


def parse_simple_response(data: bytes) -> HttpResponse | None:
    """Parse a complete, unambiguous keep-alive response; None for anything else."""
    found = _SIMPLE.match(data)
    if found is None:
        return None
    pairs = _HEADER.findall(found[2].decode("latin-1"))
    headers = {name.lower(): value for name, value in pairs}
    if len(headers) < len(pairs) or len(pairs) > _MOST_HEADERS or "transfer-encoding" in headers:
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    status = int(found[1])
    body = data[found.end() :]
    length = "0" if status in (204, 304) else headers.get("content-length")
    if length != str(len(body)):
        return None
    return HttpResponse(status, headers, body.decode("utf-8", "replace"), body)


def _lowered(headers: http.client.HTTPMessage) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class BufferedSocket(io.RawIOBase):
    """A response as a file: first the bytes that have been received, then what the socket receives until a deadline."""

    def __init__(self, received: bytes, sock: socket.socket, deadline: float) -> None:
        self._received = received
        self._sock = sock
        self._deadline = deadline
        self._is_stopped = False
        self.ended = False  # the server has closed its side

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def stop(self) -> bytes:
        """Read no more from the socket; return the received bytes that were not read."""
        self._is_stopped = True
        return self._received

    def readinto(self, buffer: Any) -> int | None:
        if self._is_stopped:
            return None
        if self._received:
            count = min(len(buffer), len(self._received))
            buffer[:count] = self._received[:count]
            self._received = self._received[count:]
            return count
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response is not complete in time")
        self._sock.settimeout(left)
        count = self._sock.recv_into(buffer)
        self.ended = count == 0
        return count


class _Response(http.client.HTTPResponse):
    """A response as http.client reads it, corrected where http.client is too lenient or too strict."""

    def __init__(self, source: BufferedSocket) -> None:
        super().__init__(source, method="POST")  # type: ignore[arg-type] # it calls nothing of a socket but makefile
        self._source = source
        self.has_trailing_bytes = False  # bytes after the response: the next response would be misread

    def _close_conn(self) -> None:
        if self.fp is not None:
            behind = self._source.stop() + self.fp.peek()
            self.has_trailing_bytes = bool(behind.strip(b"\r\n"))
        super()._close_conn()  # type: ignore[misc]

    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips only status 100; 102 and 103 precede the final response in the same way.
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 102 <= found[1] < 200:
                return found
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        super().begin()
        # http.client accepts a head that was cut.
        if self._source.ended:
            raise http.client.IncompleteRead(b"")
        if not self.chunked:
            self._agree_on_length()

    def _agree_on_length(self) -> None:
        """Refuse contradictory lengths: http.client takes the first of several headers, and ignores a list."""
        given = ",".join(self.headers.get_all("content-length", []))
        try:
            lengths = {int(length) for length in given.split(",")}
        except ValueError:
            return
        if len(lengths) > 1:
            raise http.client.HTTPException(f"contradictory lengths: {given[:100]}")
        (length,) = lengths
        if self.length is None and length >= 0:
            self.length = length

    def bounded_body(self) -> bytes:
        """The body; of one above MAX_BODY_BYTES, one byte more than that."""
        body = b""
        while len(body) <= MAX_BODY_BYTES:
            piece = self.read(MAX_BODY_BYTES + 1 - len(body))
            body += piece
            if not piece or self.length == 0:
                break
        if self.length and len(body) <= MAX_BODY_BYTES:
            raise http.client.IncompleteRead(body, self.length)
        return body
