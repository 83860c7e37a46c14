"""Probes of the backends: name, connection, TLS, and a request without an event."""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ...backends.deprecated import is_http_backend
from ...backends.exporter import described
from ...backends.http.proxies import find_proxy, without_credentials
from ...backends.protocol import Described
from ...errors import DeliveryError, RejectedError, UnauthorisedError
from ...event.model import Event
from ..terminal import duration
from .result import Result, error, ok, warning

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080, "socks4": 1080, "socks4a": 1080}
_WRONG_ADDRESS = (404, 405, 410, 415)
CERTIFICATE_DAYS = 14  # a certificate that is valid for fewer is a warning


def check_backends(backends: Sequence[Any]) -> Iterator[Result]:
    for backend in backends:
        description = described(backend)
        if is_http_backend(description):
            yield from _probe(description, backend)
        elif isinstance(description, Described):
            from .stream import check_stream

            yield from check_stream(description)
        else:
            yield ok(backend.name, "it does not speak HTTP, so it is not probed")


def _probe(description: Any, backend: Any) -> Iterator[Result]:
    url = without_credentials(description.endpoint)
    try:
        proxy = find_proxy(url, os.environ)
        target = urlsplit(proxy or url)
        port = target.port or _PORTS[target.scheme.lower()]
    except (ValueError, KeyError):
        yield error(description.name, f"{url}: not an address that can be connected to", "Correct its URL.")
        return
    way = f"through the proxy {without_credentials(proxy)}" if proxy else "without a proxy"
    try:
        found = _connect(target.hostname or "", port, description.timeout[0])
    except OSError as problem:
        whom = "the proxy" if proxy else "the service"
        text = f"{whom} {target.hostname}:{port} cannot be reached: {problem.strerror or problem}"
        yield error(description.name, text, "Check the URL, the name server, the network, firewalls and proxies.")
        return
    yield ok(description.name, f"{found}, {way}")
    if url.startswith("https:") and not proxy:
        yield from _certificate(description, target.hostname or "", port)
    answer, took = _answer(description)
    yield _no_gzip(backend, answer) or _result(description.name, answer, took)


def _connect(host: str, port: int, timeout: float) -> str:
    """Resolve a name and connect to it, each with its time. OSError when that fails."""
    began = time.monotonic()
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    resolved = time.monotonic()
    with socket.create_connection((host, port), timeout):
        connected = time.monotonic()
    name = "" if host == address else f"{host} is {address} ({duration(resolved - began)}), "
    return f"{name}connected to port {port} in {(connected - resolved) * 1000:.0f} ms"


def _certificate(description: Any, host: str, port: int) -> Iterator[Result]:
    """Whether the certificate is trusted, and for how long it is valid."""
    from ...backends.http.failure import SetupError
    from ...backends.http.tls import Tls, find_ca_certificates

    try:
        trusted = find_ca_certificates(getattr(description, "ca_bundle", None), os.environ, os.getcwd())
        context = Tls(trusted, getattr(description, "client_cert", None)).context()
        with (
            socket.create_connection((host, port), description.timeout[0]) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate, version = secure.getpeercert() or {}, secure.version()
    except ssl.SSLCertVerificationError as problem:
        yield error(
            description.name,
            f"its certificate is not trusted: {problem.verify_message}",
            "Set ca_bundle to the certificate of the authority that signed it.",
        )
    except (OSError, SetupError) as problem:
        yield error(description.name, f"TLS fails: {problem}", "Check that the URL's port speaks TLS.")
    else:
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        days = (ends - time.time()) / 86_400
        text = f"{version}, certificate trusted and valid for {days:.0f} days"
        yield warning(description.name, text, "Renew it.") if days < CERTIFICATE_DAYS else ok(description.name, text)


class _Harmless:
    """A backend's description whose requests carry no event."""

    def __init__(self, description: Any) -> None:
        self._description = description

    def __getattr__(self, name: str) -> Any:
        return getattr(self._description, name)

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {}

    def body(self, events: Sequence[Event], context: Any) -> bytes:
        key = getattr(self._description, "api_key", None)
        if key is not None:  # Trakerr has the key in the body
            return _encoded(self._description, f'{{"apiKey": "{key}"}}')
        if hasattr(self._description, "token"):
            return _encoded(self._description, "{}")
        return bytes(self._description.body([], context))


def _encoded(description: Any, text: str) -> bytes:
    import gzip

    return gzip.compress(text.encode()) if description.compress else text.encode()


def _answer(description: Any) -> tuple[DeliveryError | None, str]:
    """Send a request without an event, after the handshake that the backend has; the answer, and how long it took."""
    from ...backends.http.sender import Sender
    from ...backends.protocol import AppContext

    sender = Sender(_Harmless(description))
    sender.open(AppContext("shipper-check", os.getcwd(), "localhost", "127.0.0.1", lambda when: None))
    began = time.monotonic()
    (answer,) = sender.send([Event()])
    sender.close()
    return answer, f"in {(time.monotonic() - began) * 1000:.0f} ms"


def _no_gzip(backend: Any, answer: DeliveryError | None) -> Result | None:
    """An error if the rejected request is accepted without gzip, else None."""
    if not isinstance(answer, RejectedError) or not getattr(backend, "compress", False):
        return None
    plain, _ = _answer(described(dataclasses.replace(backend, compress=False)))
    if plain is not None:
        return None
    return error(backend.name, f"takes no gzip: {answer.reason}", "Set compress=False for it.")


def _result(name: str, answer: DeliveryError | None, took: str) -> Result:
    if answer is None:
        return ok(name, f"accepts a request without an event, {took}")
    if isinstance(answer, UnauthorisedError):
        if "redirect" in answer.reason:
            return error(name, answer.reason, "Correct its URL.")
        return error(name, f"refuses the credentials: {answer.reason}", "Correct key or token.")
    if isinstance(answer, RejectedError):
        if answer.status in _WRONG_ADDRESS:
            return error(name, f"refuses every request: {answer.reason}", "Correct its URL.")
        return ok(name, f"answers, and rejects a request without an event as it should: {answer.reason}, {took}")
    if answer.status is None:
        return error(name, answer.reason, "Check the network, firewalls and proxies.")
    return warning(name, f"takes no events now: {answer.reason}", "Events wait until it does.")
