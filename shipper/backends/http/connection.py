"""One request on an open connection, and its whole answer.

What is done for every event is done here: a request is one send, an everyday answer is one read and a look at it, which
takes a tenth of the CPU of http.client and urllib3. An answer that is anything else http.client reads, from its first
byte.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from ..protocol import HttpResponse

MAX_ANSWER = 64 * 1024
"""The most bytes of an answer's body that are read; a connection with more of them is dropped."""

PIECE = 16 * 1024  # bytes in one read
LONGEST = 86_400.0  # seconds; sockets take no number that is much larger


class Line:
    """An open connection, for one request after the other, each with ``patience`` seconds to be sent, and as many until
    its whole answer is there. `close` may be called twice."""

    def __init__(self, sock: socket.socket, patience: float, close: Callable[[], None]) -> None:
        self.is_open = True
        self.used = 0.0  # when it was last given back, as whoever keeps it says
        self._sock = sock
        self._patience = min(patience, LONGEST)
        self._close = close
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._decrypted: Callable[[], int] = getattr(sock, "pending", int)  # bytes that TLS has taken from the socket
        sock.settimeout(self._patience)

    @property
    def is_quiet(self) -> bool:
        """Whether the server has neither closed it nor said anything that nobody asked for."""
        return not self._poller.poll(0) and not self._decrypted()

    def close(self) -> None:
        self.is_open = False
        self._close()

    def exchange(self, request: bytes) -> HttpResponse:
        """The answer to a request; closes unless it may be used again. Raises what sockets, ssl and http.client do."""
        try:
            self._send(request)
            return self._answer()
        except BaseException:
            self.close()
            raise

    def _send(self, request: bytes) -> None:
        # A server may answer before it has read it all, and close.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(request)

    def _answer(self) -> HttpResponse:
        deadline = time.monotonic() + self._patience
        begun = self._sock.recv(PIECE)
        answer = _everyday(begun)
        if answer is None:
            answer = self._read_by_http_client(begun, deadline)
            if self.is_open:
                self._sock.settimeout(self._patience)
        return answer

    def _read_by_http_client(self, begun: bytes, deadline: float) -> HttpResponse:
        response = _Response(_Rest(begun, self._sock, deadline))
        response.begin()
        if response.status < 200:
            # The real answer is still to come, and would be taken for that of the next request.
            self.close()
            return HttpResponse(response.status, _lowered(response.headers), "")
        body = response.bounded_body()
        if response.will_close or response.has_company or len(body) > MAX_ANSWER:
            self.close()
        return HttpResponse(response.status, _lowered(response.headers), body[:MAX_ANSWER].decode("utf-8", "replace"))


_EVERYDAY = re.compile(rb"HTTP/1\.1 ([2-9][0-9][0-9])(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)+)\r\n")
_HEADER = re.compile(r"([^:]+):[ \t]*([^\r]*)\r\n")
_MOST_HEADERS = 99  # http.client takes no more


def _everyday(data: bytes) -> HttpResponse | None:
    """The answer, when this is all of one about which there can't be two opinions, and its connection stays open."""
    found = _EVERYDAY.match(data)
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
    return HttpResponse(status, headers, body.decode("utf-8", "replace")) if length == str(len(body)) else None


def _lowered(headers: http.client.HTTPMessage) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


class _Rest(io.RawIOBase):
    """What a socket has of an answer, behind what was read of it already; in time."""

    def __init__(self, begun: bytes, sock: socket.socket, deadline: float) -> None:
        self._begun = begun
        self._sock = sock
        self._deadline = deadline
        self._is_over = False
        self.ended = False

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def stop(self) -> bytes:
        """Read no more from the socket; what is left of what was read of it before."""
        self._is_over = True
        return self._begun

    def readinto(self, buffer: Any) -> int | None:
        if self._is_over:
            return None
        if self._begun:
            count = min(len(buffer), len(self._begun))
            buffer[:count] = self._begun[:count]
            self._begun = self._begun[count:]
            return count
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer is not complete in time")
        self._sock.settimeout(left)
        count = self._sock.recv_into(buffer)
        self.ended = count == 0
        return count


class _Response(http.client.HTTPResponse):
    """An answer as http.client reads it, where it is too lenient or too strict aside."""

    def __init__(self, source: _Rest) -> None:
        super().__init__(source, method="POST")  # type: ignore[arg-type] # all that it asks of a socket is makefile
        self._source = source
        self.has_company = False  # bytes behind it that nobody asked for: the next answer would be out of place

    def _close_conn(self) -> None:
        if self.fp is not None:
            behind = self._source.stop() + self.fp.peek()
            self.has_company = bool(behind.strip(b"\r\n"))
        super()._close_conn()  # type: ignore[misc]

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
        if not self.chunked:
            self._agree_on_length()

    def _agree_on_length(self) -> None:
        """Several lengths must be one; http.client takes the first of several headers, and none of a list."""
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
        """The body, or more than MAX_ANSWER bytes of it."""
        body = b""
        while len(body) <= MAX_ANSWER:
            piece = self.read(MAX_ANSWER + 1 - len(body))
            body += piece
            if not piece or self.length == 0:
                break
        if self.length and len(body) <= MAX_ANSWER:
            raise http.client.IncompleteRead(body, self.length)
        return body
