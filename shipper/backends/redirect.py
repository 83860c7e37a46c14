"""Sends events to the receiver of `shipper run` while that runs the application."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .deprecated import is_http_backend
from .jkool import JKool
from .trakerr import Trakerr

VARIABLE = "_SHIPPER_RUN_RECEIVER"
"""Environment variable with the receiver's address; the shipper process inherits it."""


def redirected(backend: Any, environ: Mapping[str, str]) -> Any:
    """Return a backend that sends to the receiver if `VARIABLE` is set and this one speaks HTTP, else this one."""
    receiver = environ.get(VARIABLE)
    if not receiver or not is_http_backend(backend):
        return backend
    if isinstance(backend, Trakerr):
        return dataclasses.replace(backend, url=f"{receiver}/api/v1")
    if isinstance(backend, JKool):
        return dataclasses.replace(backend, url=receiver)
    return _Redirected(backend, receiver + urlsplit(backend.endpoint).path)


class _Redirected:
    """A backend with another endpoint."""

    def __init__(self, backend: Any, endpoint: str) -> None:
        self._backend = backend
        self.endpoint = endpoint

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)
