"""Names of the previous release that work until the next one, with a DeprecationWarning.

An `HttpBackend` had the methods ``greeting`` and ``verdict``; they are now ``handshake_request`` and
``classify_response``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import DeliveryError
from .protocol import HttpBackend, HttpResponse

_RENAMED = {"greeting": "handshake_request", "verdict": "classify_response"}
_DESCRIPTION = ("name", "level", "max_events", "max_in_flight", "endpoint", "timeout", "headers", "body")


class OldMethodNames:
    """The old names on shipper's own backends, for derived classes that call ``super()``."""

    def greeting(self) -> Any:
        return self.handshake_request()  # type: ignore[attr-defined]

    def verdict(self, response: HttpResponse) -> Any:
        return self.classify_response(response)  # type: ignore[attr-defined]


def old_methods(backend: object) -> list[str]:
    """The methods that a backend's class defines under a name of the previous release."""
    found = {name: getattr(type(backend), name, None) for name in _RENAMED}
    return [name for name, method in found.items() if method not in (None, getattr(OldMethodNames, name))]


def warn_of_old_methods(backend: object) -> None:
    """Issue a DeprecationWarning for each old method of a backend."""
    for name in old_methods(backend):
        message = f"{type(backend).__name__}.{name}() is deprecated: rename the method to {_RENAMED[name]}()"
        warnings.warn(message, DeprecationWarning, stacklevel=2)


def is_http_backend(value: object) -> bool:
    """Whether a value describes HTTP requests, under the current names or the old ones."""
    if isinstance(value, type):
        return False
    is_old = bool(old_methods(value)) and all(hasattr(value, name) for name in _DESCRIPTION)
    return is_old or isinstance(value, HttpBackend)


def with_current_names(backend: Any) -> HttpBackend:
    """``backend`` itself, or a wrapper with the current names around a backend that has old ones."""
    found: HttpBackend = _Renamed(backend) if old_methods(backend) else backend
    return found


class _Renamed:
    """A backend of the previous release under the current names."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        old = getattr(self._backend, "greeting", None)
        found: tuple[Mapping[str, str], bytes] | None = (old or self._backend.handshake_request)()
        return found

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        old = getattr(self._backend, "verdict", None)
        found: DeliveryError | None = (old or self._backend.classify_response)(response)
        return found
