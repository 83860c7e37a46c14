"""Backends with one class for the settings and another one that describes the requests.

`Trakerr` and `JKool` are both in one class. Where a setting has the same name as another member of an `HttpBackend`
(``headers``, ``endpoint``), the settings are a class derived from `HttpExporter`, which makes the description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..event.model import Event
from .protocol import HttpBackend
from .settings.http_settings import HttpSettings

GZIP_LEVEL = 3  # of 9: half the time of 6, for a tenth more bytes


@dataclass(frozen=True, kw_only=True)
class HttpExporter(HttpSettings):
    """The settings of a backend, from which the shipper process makes an `HttpBackend`."""

    def describe(self) -> HttpBackend:
        """Return the requests that these settings stand for."""
        raise NotImplementedError


class Requests:
    """Base of an `HttpBackend` made from settings: each `HttpSettings` field is an attribute of the same name."""

    name: str
    level: int
    timeout: tuple[float, float]
    max_in_flight: int
    compress: bool | None

    def __init__(self, settings: HttpSettings, *, endpoint: str, max_events: int, headers: Mapping[str, str]) -> None:
        for field in fields(HttpSettings):
            setattr(self, field.name, getattr(settings, field.name))
        self.endpoint = endpoint
        self.max_events = max_events
        self._given = headers

    def with_given(self, own: Mapping[str, str]) -> dict[str, str]:
        """``own`` headers and those of the settings, which win; the case of names is ignored."""
        if self.compress:
            own = {**own, "Content-Encoding": "gzip"}
        given = {name.lower() for name in self._given}
        return {**{name: value for name, value in own.items() if name.lower() not in given}, **self._given}

    def compressed(self, body: bytes) -> bytes:
        """The body, packed with gzip if ``compress`` is set."""
        if not self.compress:
            return body
        import gzip  # imported only where requests are made

        return gzip.compress(body, GZIP_LEVEL, mtime=0)

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        """No headers: none depend on the events."""
        return {}

    def handshake_request(self) -> None:
        """None: no handshake."""


def described(value: Any) -> Any:
    """The `HttpBackend` that an `HttpExporter` describes; any other value unchanged."""
    return value.describe() if isinstance(value, HttpExporter) else value
