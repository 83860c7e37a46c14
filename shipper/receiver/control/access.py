"""Who may see the page and the control endpoints: this machine, and with a token also others.

A link with ``?token=…`` sets a cookie; programs send ``Authorization: Bearer …``. Without a token (``allow_remote`` was
not given) nobody else gets in.
"""

from __future__ import annotations

import hmac
import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.types import Scope

Headers = dict[bytes, bytes]


class Access:
    """``token`` gives other machines access; None: they get none. ``port`` is part of the cookie's name."""

    def __init__(self, token: str | None = None, port: int = 0) -> None:
        self._token = token
        self._cookie = f"shipper-receiver-{port}"

    def allows(self, scope: Scope) -> bool:
        headers: Headers = dict(scope["headers"])
        return is_local(scope["client"], headers) or (self._has_token(headers) and _is_same_origin(headers))

    def entry(self, scope: Scope) -> tuple[str, str] | None:
        """For a link with the token: where to go without it, and the cookie to set; None for anything else."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if not given or not self._is_token(given[0]) or scope["path"] != "/":
            return None
        rest = urlencode([pair for pair in query if pair[0] != "token"])
        cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        return f"/?{rest}" if rest else "/", cookie

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given.strip())
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        return self._cookie in cookies and self._is_token(cookies[self._cookie].value)

    def _is_token(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())


def is_local(client: tuple[str, int] | None, headers: Headers) -> bool:
    """Whether the client is on this machine, asks for localhost, and was not sent by a page of another site."""
    if client is None or not _is_loopback(client[0]):
        return False
    # A page of a foreign name that resolves to 127.0.0.1 (DNS rebinding) could read the answers otherwise.
    return _is_loopback(_name(_host(headers))) and _is_same_origin(headers)


def _is_same_origin(headers: Headers) -> bool:
    origin = headers.get(b"origin")
    # https too: a proxy in front of the receiver may terminate TLS.
    return origin is None or origin.decode("latin-1") in (f"http://{_host(headers)}", f"https://{_host(headers)}")


def _host(headers: Headers) -> str:
    return headers.get(b"host", b"").decode("latin-1")


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
