"""OpenTelemetry's own variables, as the specification of the OTLP exporter names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...errors import ConfigurationError
from ..settings import validators

DEFAULT_TIMEOUT = 10.0
LEAST_MILLISECONDS = 1000
"""Smaller time-outs are in seconds: the SDK for Python reads seconds, the specification says milliseconds."""

_PREFIX = "OTEL_EXPORTER_OTLP_"


class Variables(NamedTuple):
    """The variables' values. Not set: None or (), 10 seconds for ``timeout``, True for ``compress``."""

    endpoint: str | None
    logs_endpoint: str | None
    protocol: str | None
    headers: tuple[tuple[str, str], ...]
    timeout: float
    compress: bool
    certificate: str | None
    resource: tuple[tuple[str, str], ...]


def read(environ: Mapping[str, str]) -> Variables:
    """Read the variables; raises ConfigurationError, which names the variable, for a wrong value."""
    return Variables(
        endpoint=environ.get(f"{_PREFIX}ENDPOINT") or None,
        logs_endpoint=environ.get(f"{_PREFIX}LOGS_ENDPOINT") or None,
        protocol=_variable(environ, "PROTOCOL")[1],
        headers=validators.pairs(*_text(environ, "HEADERS")),
        timeout=_timeout(environ),
        compress=_compress(environ),
        certificate=_variable(environ, "CERTIFICATE")[1],
        resource=_resource(environ),
    )


def _variable(environ: Mapping[str, str], name: str) -> tuple[str, str | None]:
    """Name and value of the variable for logs, else of that for all signals; None when neither is set."""
    for variable in (f"{_PREFIX}LOGS_{name}", f"{_PREFIX}{name}"):
        if environ.get(variable):
            return variable, environ[variable].strip()
    return f"{_PREFIX}{name}", None


def _text(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    variable, value = _variable(environ, name)
    return variable, value or ""


def _timeout(environ: Mapping[str, str]) -> float:
    variable, text = _variable(environ, "TIMEOUT")
    if text is None:
        return DEFAULT_TIMEOUT
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise ConfigurationError(variable, text, "a positive number: seconds below 1000, milliseconds from there on")
    return number if number < LEAST_MILLISECONDS else number / 1000


def _compress(environ: Mapping[str, str]) -> bool:
    variable, text = _variable(environ, "COMPRESSION")
    if text not in (None, "gzip", "none"):
        raise ConfigurationError(variable, text, "gzip or none")
    return text != "none"


def _resource(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    variable = "OTEL_RESOURCE_ATTRIBUTES"
    attributes = dict(validators.pairs(variable, environ.get(variable, "")))
    if environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = environ["OTEL_SERVICE_NAME"]
    return tuple(attributes.items())
