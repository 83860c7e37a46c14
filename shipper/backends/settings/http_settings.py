"""The settings that the backends of this package share that speak HTTP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ..deprecated import OldMethodNames
from . import validators


@dataclass(frozen=True, kw_only=True)
class HttpSettings(OldMethodNames):
    """Settings of a backend that speaks HTTP. For `help()`, they are also in the docstring of `Trakerr`."""

    level: int = logging.NOTSET
    """The lowest level that is sent."""
    timeout: tuple[float, float] = (10, 10)
    """Seconds to connect, seconds until the whole response has been read."""
    max_in_flight: int = 16
    """The most requests at the same time; the number in use follows the responses."""
    batch: str | None = None
    """How several events share a request, for gateways that take them; None for one event per request."""
    name: str = ""
    """The backend's name, which must differ when there are two of one kind."""
    ca_bundle: str | None = None
    """A file or folder of CA certificates in place of the usual ones."""
    client_cert: Sequence[str] | str | None = None
    """The files of a client certificate and its key, or one file with both, in PEM format."""
    compress: bool | None = None
    """Gzip of bodies; None: of batches only."""
    max_idle: float = 45.0
    """Seconds for which a connection may be unused and be kept. Load balancers drop idle connections after 60, often
    without telling."""
    max_age: float = 120.0
    """Seconds after it was opened for which a connection is used; then the host's name is resolved again."""
    keepalive: float = 15.0
    """Seconds between two probes of the other side by the system, on an idle connection; 0 for never."""
    initial_in_flight: int = 1
    """The number of requests at the same time with which it begins."""

    def _check_http(self, kind: str, batches: Sequence[str | None]) -> None:
        """Raise ConfigurationError for a wrong value; bring those that may be given in several forms into one."""
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
