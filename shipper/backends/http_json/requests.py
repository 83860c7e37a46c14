"""The requests of the generic JSON backend, and what their responses mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..._version import __version__
from ...errors import DeliveryError, RejectedError
from ...event.model import Event
from ..exporter import Requests
from ..protocol import AppContext, HttpResponse
from ..settings.http_settings import HttpSettings
from ..wire.json_body import json_text
from .template import compile_template


class JsonRequests(Requests):
    """An `HttpBackend` that makes each request from the templates and the events of a batch."""

    def __init__(
        self,
        settings: HttpSettings,
        *,
        record: Any,
        framing: str,
        prefix: Any,
        envelope: Any,
        refused_by: str | None,
        **request: Any,
    ) -> None:
        super().__init__(settings, **request)
        self._framing = framing
        self._record = compile_template("Http.record", record)
        self._prefix = None if prefix is None else compile_template("Http.prefix", prefix)
        self._envelope = envelope
        self._refused_by = refused_by

    def headers(self, context: AppContext) -> Mapping[str, str]:
        kind = "application/x-ndjson" if self._framing == "lines" else "application/json"
        return self.with_given({"Content-Type": kind, "User-Agent": f"shipper/{__version__}"})

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        text = self._lines(events, context) if self._framing == "lines" else self._array(events, context)
        return self.compressed(text.encode("ascii"))

    def _lines(self, events: Sequence[Event], context: AppContext) -> str:
        lines = []
        for event in events:
            if self._prefix is not None:
                lines.append(json_text(self._prefix(event, context)))
            lines.append(json_text(self._record(event, context)))
        return "".join([f"{line}\n" for line in lines])

    def _array(self, events: Sequence[Event], context: AppContext) -> str:
        records = [self._record(event, context) for event in events]
        if self._envelope is None:
            return json_text(records)
        fill = compile_template("Http.envelope", self._envelope, {"events": lambda event, context: records})
        return json_text(fill(events[0], context))

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        """RejectedError for a body with the text of ``refused_by``; None leaves it to the status code."""
        if self._refused_by is None or self._refused_by not in response.body:
            return None
        reason = f"the response says {self._refused_by!r}"
        return RejectedError(reason, status=response.status, body=response.body)
