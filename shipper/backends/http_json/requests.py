"""The requests of the generic JSON backend, and what their responses mean."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence

from ..._version import __version__
from ...errors import DeliveryError, RejectedError
from ...event.model import Event
from ..json_body import json_text
from ..protocol import AppContext, HttpResponse
from .settings import Http
from .template import compile_template

GZIP_LEVEL = 3


class JsonRequests:
    """An `HttpBackend`: each request is the events of a batch, as the templates say."""

    def __init__(self, settings: Http) -> None:
        self.name = settings.name
        self.level = settings.level
        self.max_events = settings.max_events
        self.max_in_flight = settings.max_in_flight
        self.endpoint = settings.url
        self.timeout = settings.timeout
        self.ca_bundle = settings.ca_bundle
        self._settings = settings
        self._record = compile_template("Http.record", settings.record)
        self._prefix = None if settings.prefix is None else compile_template("Http.prefix", settings.prefix)

    def headers(self, context: AppContext) -> Mapping[str, str]:
        kind = "application/x-ndjson" if self._settings.framing == "lines" else "application/json"
        own = {"Content-Type": kind, "User-Agent": f"shipper/{__version__}"}
        if self._settings.compress:
            own["Content-Encoding"] = "gzip"
        given = dict(self._settings.headers)  # type: ignore[arg-type] # pairs, once it is made
        taken = {name.lower() for name in given}
        return {**{name: value for name, value in own.items() if name.lower() not in taken}, **given}

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        text = self._lines(events, context) if self._settings.framing == "lines" else self._array(events, context)
        plain = text.encode("ascii")
        return gzip.compress(plain, GZIP_LEVEL, mtime=0) if self._settings.compress else plain

    def _lines(self, events: Sequence[Event], context: AppContext) -> str:
        lines = []
        for event in events:
            if self._prefix is not None:
                lines.append(json_text(self._prefix(event, context)))
            lines.append(json_text(self._record(event, context)))
        return "".join([f"{line}\n" for line in lines])

    def _array(self, events: Sequence[Event], context: AppContext) -> str:
        records = [self._record(event, context) for event in events]
        if self._settings.envelope is None:
            return json_text(records)
        fill = compile_template("Http.envelope", self._settings.envelope, {"events": lambda event, context: records})
        return json_text(fill(events[0], context))

    def handshake_request(self) -> None:
        """There is none."""

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        """RejectedError for a body with the text of ``refused_by``; None leaves it to the status code."""
        refused_by = self._settings.refused_by
        if refused_by is None or refused_by not in response.body:
            return None
        return RejectedError(
            f"the response says {refused_by!r}", status=response.status, body=response.body
        )
