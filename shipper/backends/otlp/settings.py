"""The OTLP backend: OpenTelemetry collectors, and every service that takes OTLP over HTTP."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from ...errors import ConfigurationError, suggest_keywords
from ..exporter import HttpExporter
from ..protocol import HttpBackend
from ..settings import validators
from . import environment

DEFAULT_ENDPOINT = "http://localhost:4318"
LOGS_PATH = "/v1/logs"
MAX_EVENTS = 2000  # in one request; the bytes of a batch bound it earlier

Pairs = str | Mapping[str, str] | tuple[tuple[str, str], ...]


@suggest_keywords
@dataclass(frozen=True)
class Otlp(HttpExporter):
    """Sends events as OTLP log records, in protobuf over HTTP. Raises ConfigurationError for a wrong value.

    ``endpoint``: the collector's base address; ``/v1/logs`` is added unless it ends with that
    (``http://localhost:4318``). ``headers``: sent with each request, a mapping or ``"name=value,name=value"`` with
    percent-encoded values. ``resource``: further attributes of the resource, in the same forms; ``service.name`` is the
    app's name by default.

    `Trakerr` describes what all backends over HTTP have: ``level`` (NOTSET), ``timeout`` (10, 10), ``max_in_flight``
    (4), ``initial_in_flight`` (1), ``name`` ("otlp"), ``ca_bundle``, ``client_cert``, ``compress`` (True), ``max_idle``
    (45), ``max_age`` (120), ``keepalive`` (15).

    What is not given comes from OpenTelemetry's own variables, ``OTEL_EXPORTER_OTLP_LOGS_…`` before
    ``OTEL_EXPORTER_OTLP_…`` (endpoint, headers, timeout, compression, certificate), ``OTEL_RESOURCE_ATTRIBUTES`` and
    ``OTEL_SERVICE_NAME``.
    """

    endpoint: str | None = None
    _: KW_ONLY
    headers: Pairs | None = field(default=None, repr=False)
    resource: Pairs | None = None
    level: int = logging.NOTSET
    timeout: tuple[float, float] | None = None  # type: ignore[assignment] # None until __post_init__ has settled it
    max_in_flight: int = 4
    name: str = "otlp"

    def __post_init__(self) -> None:
        said = environment.read(os.environ)
        self._set("endpoint", self._address(said))
        self._set("headers", validators.pairs("Otlp.headers", said.headers if self.headers is None else self.headers))
        resource = {**dict(said.resource), **dict(validators.pairs("Otlp.resource", self.resource or ()))}
        self._set("resource", tuple(resource.items()))
        if self.timeout is None:
            self._set("timeout", (min(said.timeout, 10.0), said.timeout))
        if self.ca_bundle is None:
            self._set("ca_bundle", said.certificate)
        if self.compress is None:
            self._set("compress", said.compress)
        self._check_http("Otlp", (None,))

    def _address(self, said: environment.Variables) -> str:
        if self.endpoint is not None:
            validators.url("Otlp.endpoint", self.endpoint)
            return _with_path(self.endpoint)
        if said.protocol == "grpc" and said.endpoint is not None:
            raise ConfigurationError(
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "grpc",
                "shipper speaks http/protobuf: give endpoint= the collector's HTTP address, usually its port 4318",
            )
        if said.logs_endpoint is not None:  # used as it is, as the specification says: no path is added
            return validators.url("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", said.logs_endpoint)
        if said.endpoint is not None:
            return _with_path(validators.url("OTEL_EXPORTER_OTLP_ENDPOINT", said.endpoint))
        return DEFAULT_ENDPOINT + LOGS_PATH

    @property
    def max_events(self) -> int:
        return MAX_EVENTS

    @property
    def destination(self) -> tuple[object, object]:
        """URL and headers: equal for backends that send to the same place."""
        return self.endpoint, self.headers

    def describe(self) -> HttpBackend:
        from .requests import LogRequests  # only the shipper process makes requests

        return LogRequests(
            self,
            endpoint=str(self.endpoint),
            headers=dict(self.headers or ()),  # type: ignore[arg-type] # pairs, once it is made
            resource=dict(self.resource or ()),  # type: ignore[arg-type]
            max_events=self.max_events,
        )


def _with_path(endpoint: str) -> str:
    parts = validators.split(endpoint)
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(LOGS_PATH) else path + LOGS_PATH, fragment="").geturl()
