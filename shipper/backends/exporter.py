"""Backends whose settings are one thing, and the description of their requests another.

`Trakerr` and `JKool` are both at once. Where a setting has to be called as a part of a request is (``headers``,
``endpoint``), the settings are a class derived from `HttpExporter`, and the description is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .http_settings import HttpSettings
from .protocol import HttpBackend


@dataclass(frozen=True, kw_only=True)
class HttpExporter(HttpSettings):
    """The settings of a backend, from which the shipper process makes an `HttpBackend`."""

    def describe(self) -> HttpBackend:
        """Return the requests that these settings stand for."""
        raise NotImplementedError


def described(value: Any) -> Any:
    """The `Backend` or `HttpBackend` that a setting stands for: itself, unless it has to be described first."""
    return value.describe() if isinstance(value, HttpExporter) else value
