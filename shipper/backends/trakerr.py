"""Trakerr: one AppEvent as JSON per ``POST {url}/events``, the key in its body."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from .._version import __version__
from ..errors import ConfigurationError, DeliveryError, suggest_keywords
from ..event.model import Event
from .protocol import AppContext, HttpResponse
from .settings import validators
from .settings.http_settings import HttpSettings


@suggest_keywords
@dataclass(frozen=True)
class Trakerr(HttpSettings):
    """Sends events to Trakerr. Raises ConfigurationError for a wrong value.

    ``api_key`` is part of each request's body. ``url``: the service's address (https://www.trakerr.io/api/v1);
    ``/events`` is added. ``batch="array"`` sends a JSON array of at most 100 events per request, for gateways that take
    one (None: one event per request). What each event says of its application: ``app_version`` ("1.0"),
    ``deployment_stage`` ("development"), ``tags`` (none; the logger's name is added), and ``app_sku``, ``data_center``,
    ``data_center_region``, ``app_browser``, ``app_browser_version`` (not sent).

    All backends over HTTP have: ``level``, the lowest that is sent (WARNING); ``timeout``, seconds to connect and until
    the whole response is read (3.05, 10); ``max_in_flight``, the most requests at a time (16), of which
    ``initial_in_flight`` to begin with (1); ``name``, which no other backend has ("trakerr"); ``ca_bundle``, a file or
    folder of CA certificates in place of the usual ones; ``client_cert``, PEM files of a certificate and its key, or
    one with both; ``compress``, gzip of bodies (of batches only); ``max_idle`` and ``max_age``, seconds after its last
    use (45) and after its opening (120) for which a connection is kept; ``keepalive``, seconds between probes on an
    idle one (15; 0: none).
    """

    api_key: str = field(repr=False)
    app_version: str = "1.0"
    deployment_stage: str = "development"
    _: KW_ONLY
    app_sku: str = ""
    tags: Sequence[str] = ()
    data_center: str | None = None
    data_center_region: str | None = None
    app_browser: str | None = None
    app_browser_version: str | None = None
    url: str = "https://www.trakerr.io/api/v1"
    level: int = logging.WARNING
    timeout: tuple[float, float] = (3.05, 10)
    name: str = "trakerr"

    def __post_init__(self) -> None:
        validators.secret("Trakerr.api_key", self.api_key)
        validators.text("Trakerr.app_version", self.app_version)
        validators.text("Trakerr.deployment_stage", self.deployment_stage)
        validators.text("Trakerr.app_sku", self.app_sku)
        for setting in ("data_center", "data_center_region", "app_browser", "app_browser_version"):
            validators.text_or_none(f"Trakerr.{setting}", getattr(self, setting))
        validators.url("Trakerr.url", self.url)
        if validators.split(self.url).path.rstrip("/").endswith("/events"):
            shown = validators.without_password(self.url)
            raise ConfigurationError("Trakerr.url", shown, "must not end in /events, because /events is added to it")
        self._set("tags", validators.texts("Trakerr.tags", self.tags))
        self._check_http("Trakerr", (None, "array"))

    @property
    def max_events(self) -> int:
        # The ids of 100 events fit into one header.
        return 1 if self.batch is None else 100

    @property
    def destination(self) -> tuple[str, str]:
        """URL and key: equal for backends that send to the same place."""
        return self.endpoint, self.api_key

    @property
    def endpoint(self) -> str:
        parts = validators.split(self.url)
        return parts._replace(path=parts.path.rstrip("/") + "/events", fragment="").geturl()

    def headers(self, context: AppContext) -> Mapping[str, str]:
        own = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"shipper/{__version__}",
        }
        return {**own, "Content-Encoding": "gzip"} if self.compress else own

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        ids = ",".join(str(event.id) for event in events if event.id is not None)
        return {"Idempotency-Key": ids} if ids else {}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        from .wire import trakerr_body  # only where requests are made

        # A derived class may encode events in another way, or may not be hashable.
        return trakerr_body.body(self, events, context, is_plain=type(self) is Trakerr)

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        return None

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        return None

    def app_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The event's JSON object, without keys that the client set to None, and with defaults for missing keys."""
        from .wire import trakerr_body

        return trakerr_body.app_event(self, event, context)
