"""The bytes of a request's head, as http.client writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection


class RequestHeadBuilder(HTTPConnection):
    """Builds heads of POST requests: request line, Host, checked headers. Connects to nothing."""

    def __init__(self, pool: urllib3.HTTPConnectionPool, target: str) -> None:
        super().__init__(pool.host, pool.port)
        self.default_port = 443 if pool.scheme == "https" else 80  # type: ignore[misc]
        self._target = target if target.startswith("/") else urllib3.util.parse_url(target).url
        self._head = b""

    def send(self, data: Any) -> None:
        self._head = data

    def build(self, headers: Mapping[str, str]) -> bytes:
        """Return a head without its last, empty line. Raises ValueError for a wrong header."""
        given = {name.lower() for name in headers}
        self.putrequest(
            "POST", self._target, skip_host="host" in given, skip_accept_encoding="accept-encoding" in given
        )
        for name, value in headers.items():
            self.putheader(name, value.encode())  # type: ignore[arg-type] # UTF-8; http.client encodes as Latin-1
        self.endheaders()
        self.close()
        return self._head.removesuffix(b"\r\n")


def request(head: bytes, body: bytes) -> bytes:
    """A request from a body and a head without ``Content-Length`` and its last, empty line."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """The lines of further headers. Raises ValueError for a wrong header."""
    return b"".join(map(_line, headers))


def _line(header: tuple[str, str]) -> bytes:
    name, value = header
    if not _NAME.fullmatch(name) or _LINE_ENDS.search(value):
        raise ValueError(f"not a header: {name!r}: {value!r}")
    return b"%b: %b\r\n" % (name.encode(), value.encode())


_NAME = re.compile(r"[!-9;-~]+")
_LINE_ENDS = re.compile(r"[\r\n\0]")
