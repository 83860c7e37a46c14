"""The requests of the OTLP backend, and what their responses mean.

As OTLP/HTTP specifies, a request is sent again after 429, 502, 503 and 504, and ``Retry-After`` is obeyed. Against the
specification, it is also sent again after 408, 425 and the other 5xx but 501, so that no event is lost. After a partial
success it is not sent again: the response says how many records were rejected, and not which.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ..._version import __version__
from ...errors import DeliveryError, PartlyRejectedError
from ...event.model import Event
from ..exporter import Requests
from ..protocol import AppContext, HttpResponse
from ..settings.http_settings import HttpSettings
from ..wire.source_lines import exception_text
from . import logs, protobuf


class LogRequests(Requests):
    """An `HttpBackend`: each request is one ExportLogsServiceRequest.

    ``resource``: attributes of the resource, added to those of app, host and sender, or in their place.
    """

    def __init__(self, settings: HttpSettings, *, resource: Mapping[str, str], **request: Any) -> None:
        super().__init__(settings, **request)
        self._resource = resource
        self._encoded_resource: bytes | None = None

    def headers(self, context: AppContext) -> Mapping[str, str]:
        agent = f"OTel-OTLP-Exporter-shipper/{__version__}"
        return self.with_given({"Content-Type": "application/x-protobuf", "User-Agent": agent})

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        if self._encoded_resource is None:
            self._encoded_resource = self._resource_message(context)
        traceback = functools.partial(_traceback, context)
        return self.compressed(logs.request(events, self._encoded_resource, traceback))

    def _resource_message(self, context: AppContext) -> bytes:
        attributes = {
            "service.name": context.app,
            "host.name": context.host,
            "telemetry.sdk.name": "shipper",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": __version__,
        }
        return logs.resource_message({**attributes, **self._resource})

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        """PartlyRejectedError for a partial success that rejects records; None leaves it to the status code."""
        if response.status != 200:
            return None
        try:
            rejected, message = partial_success(response.content)
        except ValueError:  # the body is JSON, or no message: only the status counts
            return None
        if rejected <= 0:
            return None
        reason = f"the receiver rejected {rejected} log records of a request: {message or 'it does not say why'}"
        return PartlyRejectedError(reason, rejected, status=response.status, body=message)


def _traceback(context: AppContext, event: Event) -> str:
    return exception_text(event, context) or ""


def partial_success(content: bytes) -> tuple[int, str]:
    """How many records an ExportLogsServiceResponse reports as rejected, and why. ValueError if it is no message."""
    for number, value in protobuf.fields(content):
        if number == 1 and isinstance(value, bytes):
            members = dict(protobuf.fields(value))
            rejected, message = members.get(1, 0), members.get(2, b"")
            if isinstance(rejected, int) and isinstance(message, bytes):
                return protobuf.signed(rejected), message.decode("utf-8", "replace")
    return 0, ""
