"""The generic backend: JSON to any URL, with fields chosen by a template."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from ...errors import ConfigurationError, suggest_keywords
from ..exporter import HttpExporter
from ..protocol import HttpBackend
from ..settings import validators
from .template import MISSING, compile_template

RECORD: Mapping[str, Any] = {
    "id": "{id}",
    "timestamp": "{iso}",
    "level": "{level_name}",
    "logger": "{logger}",
    "message": "{message}",
    "exception": "{exception}",
    "app": "{app}",
    "host": "{host}",
    "pid": "{pid}",
    "process": "{process}",
    "thread": "{thread}",
    "path": "{path}",
    "line": "{line}",
    "function": "{function}",
    "fields": "{fields}",
}
"""An event by default."""


@suggest_keywords
@dataclass(frozen=True)
class Http(HttpExporter):
    """Sends events as JSON to any URL. Raises ConfigurationError for a wrong value.

    ``url``: where every request is POSTed to. ``record``: the template of an event (all fields; see `template`).
    ``framing``: how the events of a request follow each other: "lines" (one a line, application/x-ndjson; the default)
    or "array" (a JSON array). ``prefix``: the template of a line before each event, as Elasticsearch's bulk API wants
    one; with "lines" only. ``envelope``: the template of what stands around the events, in which ``"{events}"`` is
    their array; with "array" only, other placeholders in it are filled in from the first event. ``headers``: sent with
    each request. ``max_events``: the most in one request (500). ``refused_by``: a text; a response that has it in its
    body refuses the request whatever its status says, and the events to blame are found by halving it.

    `Trakerr` describes what all backends over HTTP have: ``level`` (NOTSET), ``timeout`` (10, 10), ``max_in_flight``
    (4), ``initial_in_flight`` (1), ``name`` ("http"), ``ca_bundle``, ``client_cert``, ``compress`` (True), ``max_idle``
    (45), ``max_age`` (120), ``keepalive`` (15).

    In variables the templates are JSON text (``SHIPPER_HTTP_RECORD``), and headers ``name=value,name=value``.
    """

    url: str
    _: KW_ONLY
    record: str | Any = field(default_factory=lambda: dict(RECORD))
    framing: str = "lines"
    prefix: str | Any = None
    envelope: str | Any = None
    headers: str | Mapping[str, str] | tuple[tuple[str, str], ...] = field(default=(), repr=False)
    max_events: int = 500
    refused_by: str | None = None
    level: int = logging.NOTSET
    max_in_flight: int = 4
    name: str = "http"

    __hash__ = None  # type: ignore[assignment] # templates are dicts

    def __post_init__(self) -> None:
        validators.url("Http.url", self.url)
        self._set("framing", validators.one_of("Http.framing", self.framing, ("lines", "array")))
        for setting in ("record", "prefix", "envelope"):
            self._set(setting, _from_json(getattr(self, setting)))
        if self.prefix is not None and self.framing != "lines":
            raise ConfigurationError("Http.prefix", self.prefix, 'goes with framing="lines"')
        if self.envelope is not None and self.framing != "array":
            raise ConfigurationError("Http.envelope", self.envelope, 'goes with framing="array"')
        compile_template("Http.record", self.record)
        compile_template("Http.prefix", self.prefix)
        compile_template("Http.envelope", self.envelope, {"events": lambda event, context: MISSING})
        self._set("headers", validators.pairs("Http.headers", self.headers))
        if isinstance(self.max_events, bool) or not isinstance(self.max_events, int) or self.max_events < 1:
            raise ConfigurationError("Http.max_events", self.max_events, "a whole number, at least 1")
        validators.text_or_none("Http.refused_by", self.refused_by)
        if self.compress is None:
            self._set("compress", True)
        self._check_http("Http", (None,))

    @property
    def destination(self) -> tuple[object, object]:
        """URL and headers: equal for backends that send to the same place."""
        return self.url, self.headers

    def describe(self) -> HttpBackend:
        from .requests import JsonRequests  # only the shipper process makes requests

        return JsonRequests(
            self,
            record=self.record,
            framing=self.framing,
            prefix=self.prefix,
            envelope=self.envelope,
            refused_by=self.refused_by,
            endpoint=self.url,
            max_events=self.max_events,
            headers=dict(self.headers),  # type: ignore[arg-type] # pairs, once it is made
        )


def _from_json(template: Any) -> Any:
    """A template that is JSON text, as a variable has it, read; any other as it is."""
    if not isinstance(template, str):
        return template
    try:
        return json.loads(template)
    except ValueError:
        return template
