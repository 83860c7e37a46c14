"""The requests of the OTLP backend, and what their responses mean.

After the specification of OTLP/HTTP: 429, 502, 503 and 504 are sent again, ``Retry-After`` is obeyed. 408 and the other
5xx are not retryable there; they are sent again here all the same, since nothing is to be lost. A partial success is
never sent again: it says how many records were rejected, and not which.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence

from ..._version import __version__
from ...errors import DeliveryError, PartlyRejectedError
from ...event.model import Event
from ..protocol import AppContext, HttpResponse
from ..source_lines import exception_text
from . import logs, protobuf
from .settings import Otlp

GZIP_LEVEL = 3  # of 9: half the time of 6, for a tenth more bytes


class LogRequests:
    """An `HttpBackend`: each request is one ExportLogsServiceRequest."""

    def __init__(self, settings: Otlp) -> None:
        self.name = settings.name
        self.level = settings.level
        self.max_events = settings.max_events
        self.max_in_flight = settings.max_in_flight
        self.endpoint = str(settings.endpoint)
        self.timeout: tuple[float, float] = settings.timeout or (10.0, 10.0)
        self.ca_bundle = settings.ca_bundle
        self._settings = settings
        self._resource: bytes | None = None

    def headers(self, context: AppContext) -> Mapping[str, str]:
        own = {"Content-Type": "application/x-protobuf", "User-Agent": f"OTel-OTLP-Exporter-shipper/{__version__}"}
        if self._settings.compress:
            own["Content-Encoding"] = "gzip"
        return {**own, **dict(self._settings.headers or ())}  # type: ignore[arg-type] # pairs, once it is made

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        if self._resource is None:
            self._resource = self._resource_message(context)
        plain = logs.request(events, self._resource, lambda event: exception_text(event, context) or "")
        return gzip.compress(plain, GZIP_LEVEL, mtime=0) if self._settings.compress else plain

    def _resource_message(self, context: AppContext) -> bytes:
        attributes = {
            "service.name": context.app,
            "host.name": context.host,
            "telemetry.sdk.name": "shipper",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": __version__,
        }
        attributes.update(self._settings.resource or ())  # type: ignore[arg-type]
        return logs.resource_message(attributes)

    def handshake_request(self) -> None:
        """OTLP has none."""

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        """PartlyRejectedError for a partial success that rejects records; None leaves it to the status code."""
        if response.status != 200:
            return None
        try:
            rejected, message = partial_success(response.content)
        except ValueError:  # a receiver that answers with JSON, or with nothing sensible: the status counts
            return None
        if rejected <= 0:
            return None
        reason = f"the receiver rejected {rejected} log records of a request: {message or 'it does not say why'}"
        return PartlyRejectedError(reason, rejected, status=response.status, body=message)


def partial_success(content: bytes) -> tuple[int, str]:
    """How many records an ExportLogsServiceResponse says were rejected, and why. ValueError for another message."""
    for number, value in protobuf.fields(content):
        if number == 1 and isinstance(value, bytes):
            members = dict(protobuf.fields(value))
            rejected, message = members.get(1, 0), members.get(2, b"")
            if isinstance(rejected, int) and isinstance(message, bytes):
                return protobuf.signed(rejected), message.decode("utf-8", "replace")
    return 0, ""
