"""What an exception of urllib3, http.client, ssl or the operating system means for the events of a request."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl

import urllib3
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

from ...errors import DeliveryError, RetryableError, UnauthorisedError
from .status import CREDENTIALS


class SetupError(Exception):
    """A setting is wrong in a way that shows only when connections are opened; the text is a sentence for the user."""


def classify_failure(exc: BaseException, place: str) -> DeliveryError:
    """Return the error for the events of a request that got no response. ``place``: see `origin`."""
    cause = exc.reason if isinstance(exc, MaxRetryError) and exc.reason is not None else exc
    if isinstance(cause, (LocationValueError, UnicodeError)):
        return UnauthorisedError(f"no such address: {place}: {describe(cause)}")
    if isinstance(cause, ProxyError):
        return _proxy_failure(cause)
    refused = _certificate_failure(cause)
    if refused:
        return UnauthorisedError(f"{place}: {refused}")
    return RetryableError(_reason(cause, place))


def _certificate_failure(cause: BaseException) -> str:
    """What a server's TLS alert says is wrong with the client certificate; "" for other failures."""
    inner = _innermost(cause)
    alert = (inner.reason or "") if isinstance(inner, ssl.SSLError) else ""
    if alert.endswith("ALERT_CERTIFICATE_REQUIRED"):
        return "the server requires a client certificate: set client_cert"
    if alert.endswith(_REFUSED_CERTIFICATE):
        return f"the server refuses the client certificate: {describe(cause)}"
    return ""


_REFUSED_CERTIFICATE = (
    "ALERT_ACCESS_DENIED", "ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_UNKNOWN", "ALERT_UNKNOWN_CA", "ALERT_UNSUPPORTED_CERTIFICATE",
)  # fmt: skip


def _reason(cause: BaseException, place: str) -> str:
    if isinstance(cause, NameResolutionError):
        return f"{place}: the host's name can't be resolved: {describe(cause)}"
    if isinstance(cause, ConnectTimeoutError) and not isinstance(cause, NewConnectionError):
        return f"{place}: no connection in time"
    if isinstance(cause, NewConnectionError):
        return f"{place}: no connection: {describe(cause).rpartition('new connection: ')[2]}"
    if isinstance(cause, ReadTimeoutError) or isinstance(_innermost(cause), TimeoutError):
        return f"{place}: no complete response in time"
    if isinstance(cause, (SSLError, ssl.SSLError)):
        text = f"{place}: TLS: {describe(cause)}"
        # With TLS 1.2, a server that requires a client certificate sends this alert and says no more.
        is_refused = "ALERT_HANDSHAKE_FAILURE" in text
        return f"{text}; if the server requires a client certificate, set client_cert" if is_refused else text
    if isinstance(cause, http.client.IncompleteRead):
        return f"{place}: the response was cut"
    if isinstance(cause, ClosedPoolError):
        return "closed"
    return f"{place}: {describe(cause)}"


def _proxy_failure(exc: ProxyError) -> DeliveryError:
    reason = f"proxy: {describe(exc)}"
    status = re.search(r"Tunnel connection failed: (\d{3})", reason)
    if status and int(status[1]) in CREDENTIALS:
        return UnauthorisedError(reason, status=int(status[1]))
    return RetryableError(reason)


def describe(exc: BaseException) -> str:
    """The innermost cause in one line, without passwords; the exceptions around it only repeat the address."""
    inner = _innermost(exc)
    text = str(inner) if isinstance(inner, SetupError) else f"{type(inner).__name__}: {inner}"[:300]
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


def origin(url: str) -> str:
    """Scheme, host and port of a URL, without credentials."""
    with contextlib.suppress(ValueError):
        parts = urllib3.util.parse_url(url)
        return parts._replace(auth=None, path=None, query=None, fragment=None).url
    return "the address"
