"""The settings that the backends for Trakerr and jKool share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..deprecated import OldMethodNames
from . import validators


@dataclass(frozen=True, kw_only=True)
class HttpSettings(OldMethodNames):
    """Settings of a backend that speaks HTTP.

    ``level``: the lowest level that is sent. ``timeout``: seconds to connect, seconds until the whole response has been
    read. ``max_in_flight``: the most requests at the same time (16); the number in use follows the responses, and
    begins with ``initial_in_flight`` (1). ``batch``: how several events share a request, for gateways that take them;
    None for one event per request. ``compress``: gzip of bodies, by default of batches only. ``name``: the backend's
    name, which must differ when there are two of one kind. ``ca_bundle``: a file or folder of CA certificates in place
    of the usual ones. ``client_cert``: the files of a client certificate and its key, or one file with both, in PEM
    format.

    Connections are kept for further requests, but not when they have been unused for ``max_idle`` seconds (45; load
    balancers drop idle connections after 60, often without telling) or were opened ``max_age`` seconds ago (120; then
    the host's name is resolved again). On an idle connection the system probes the other side every ``keepalive``
    seconds (15; 0 for never).
    """

    level: int = logging.NOTSET
    timeout: tuple[float, float] = (10, 10)
    max_in_flight: int = 16
    batch: str | None = None
    name: str = ""
    ca_bundle: str | None = None
    client_cert: Sequence[str] | str | None = None
    compress: bool | None = None
    max_idle: float = 45.0
    max_age: float = 120.0
    keepalive: float = 15.0
    initial_in_flight: int = 1

    def _check_http(self, kind: str, batches: Sequence[str | None]) -> None:
        """Raise ConfigurationError for a wrong value; give the others their final form."""
        validators.in_flight(f"{kind}.max_in_flight", self.max_in_flight)
        validators.in_flight(f"{kind}.initial_in_flight", self.initial_in_flight)
        self._set("batch", validators.one_of(f"{kind}.batch", self.batch, batches))
        validators.name(f"{kind}.name", self.name)
        compress = self.batch is not None if self.compress is None else self.compress
        self._set("compress", validators.flag(f"{kind}.compress", compress))
        self._set("ca_bundle", validators.readable_path(f"{kind}.ca_bundle", self.ca_bundle))
        self._set("client_cert", validators.client_cert(f"{kind}.client_cert", self.client_cert))
        self._set("level", validators.level(f"{kind}.level", self.level))
        for setting in ("max_idle", "max_age", "keepalive"):
            validators.seconds(f"{kind}.{setting}", getattr(self, setting))
        self._set("timeout", validators.timeout(f"{kind}.timeout", self.timeout))

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)  # the class is frozen
