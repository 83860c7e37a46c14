"""Trakerr: one AppEvent as JSON per ``POST {url}/events``, the key in its body."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from .._version import __version__
from ..errors import ConfigurationError, DeliveryError, suggest_keywords
from ..event.model import TRACE_ID, Event
from . import validators
from .http_settings import HttpSettings
from .protocol import AppContext, HttpResponse
from .wire import json_body
from .wire.trakerr_event import (  # fmt: skip
    FIELDS,
    SLOT_NAMES,
    SLOTS,
    attributes_and_extras,
    environment,
    fields_of_jkool,
    log_level,
    milliseconds,
    spelled,
    stacktrace,
    with_extras,
)

_NO_VALUES: dict[str, Any] = dict.fromkeys(FIELDS)


@suggest_keywords
@dataclass(frozen=True)
class Trakerr(HttpSettings):
    """Sends events to Trakerr. Raises ConfigurationError for a wrong value.

    ``api_key`` is part of each request's body. ``url``: the service's address; ``/events`` is added. ``batch="array"``
    sends a JSON array per request, for gateways that take one. ``app_version``, ``deployment_stage``, ``app_sku``,
    ``tags``, ``data_center``, ``data_center_region``, ``app_browser`` and ``app_browser_version`` are what each event
    says of its application. The other settings are those of `HttpSettings`; ``level`` is WARNING by default.
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
        # A derived class may encode events in another way, or may not be hashable.
        encode = build_fast_encoder(self, context) if type(self) is Trakerr else json_body.no_fast_path
        texts = [encode(event) or self._text(event, context) for event in events]
        return json_body.body(texts, self.batch, bool(self.compress))

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        return None

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        return None

    def _text(self, event: Event, context: AppContext) -> str:
        return json_body.json_text(self.app_event(event, context))

    def app_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The event's JSON object, without keys that the client set to None, and with defaults for missing keys."""
        fields = self._all_fields(event, context, context.load(_time_of(event)))
        return {key: value for key, value in fields.items() if value is not None}

    def _all_fields(self, event: Event, context: AppContext, load: tuple[float, float] | None) -> dict[str, Any]:
        fields = self._common(context)
        fields["eventTime"] = milliseconds(event.time)
        fields["contextCpuPercentage"], fields["contextMemoryPercentage"] = load or (None, None)
        fields.update(self._own_fields(event, context))  # unknown keys, which a client may have set, come last
        if fields["apiKey"] is None:
            fields["apiKey"] = self.api_key
        return fields

    def _own_fields(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The keys that the event itself has."""
        if event.kind != "trakerr":
            return self._of_record(event, context)
        if event.exceptions and "eventStacktrace" not in event.data:
            return {"eventStacktrace": stacktrace(event.exceptions, context.cwd), **event.data}
        return event.data

    def _common(self, context: AppContext) -> dict[str, Any]:
        """Every key with its default, in the order on the wire."""
        return {
            **_NO_VALUES,
            **environment(),
            "apiKey": self.api_key,
            "contextAppVersion": self.app_version,
            "deploymentStage": self.deployment_stage,
            "contextEnvHostname": context.host,
            "contextAppBrowser": self.app_browser,
            "contextAppBrowserVersion": self.app_browser_version,
            "contextDataCenter": self.data_center,
            "contextDataCenterRegion": self.data_center_region,
            "contextTags": list(self.tags),
            "contextAppSku": self.app_sku or None,
        }

    def _of_record(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The keys of a log record; ``event.data`` has the defaults of its handler."""
        fields: dict[str, Any] = {}
        if event.data and event.kind == "log":
            fields = {key: event.data[key] for key in FIELDS if key in event.data}
        tags = fields.get("contextTags", self.tags) or ()
        tags = tags if isinstance(tags, (list, tuple)) else [tags]  # what a before_send has put there
        fields |= {
            "logLevel": log_level(event.level),
            "classification": "log" if event.level < logging.WARNING else "issue",
            "eventType": event.exceptions[0].type if event.exceptions else event.logger,
            "eventMessage": event.message,
            "contextTags": [*tags, event.logger] if event.logger else list(tags),
        }
        if event.exceptions:
            fields["eventStacktrace"] = stacktrace(event.exceptions, context.cwd)
        if event.context.get(TRACE_ID) and fields.get("contextCrossAppCorrelationId") is None:
            fields["contextCrossAppCorrelationId"] = event.context[TRACE_ID]
        if event.kind == "jkool":
            return {**fields, **fields_of_jkool(event)}
        attributes, extras = attributes_and_extras(event)
        fields.update(attributes)
        if extras:
            fields["customProperties"] = with_extras(fields.get("customProperties"), extras)
        return fields


def _time_of(event: Event) -> float:
    """Seconds since the epoch: the time that a client has given its event, which may lie far from now."""
    given = event.data.get("eventTime") if event.kind == "trakerr" else None
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    return given / 1000 if is_number else event.time  # type: ignore[operator]


@functools.lru_cache(maxsize=16)
def build_fast_encoder(backend: Trakerr, context: AppContext) -> Callable[[Event], str | None]:
    """Return a function that gives a usual event's JSON text, and None for any other event.

    The parts of the text that depend on level and logger only are encoded once.
    """

    @functools.lru_cache(maxsize=json_body.MAX_CACHED)
    def constant_parts(level: int, logger: str) -> list[str]:
        return json_body.split_at(_PER_EVENT, backend._all_fields(Event(level=level, logger=logger), context, None))

    def encode(event: Event) -> str | None:
        if event.kind != "log" or event.exceptions or event.data or event.stack is not None:
            return None
        extras = {**event.context, **event.extra} if event.context else event.extra
        if "trakerr" in extras or "allTags" in extras or TRACE_ID in event.context:
            return None
        begin, origin, sku, segments = constant_parts(event.level, event.logger)
        sample = context.load(event.time)
        load = _load_text(*sample) if sample else ""
        custom = _custom_text(extras) if extras else ""
        return (
            f'{{{begin[2:]}, "eventMessage": {json_body.quote(event.message)}, "eventTime": {milliseconds(event.time)}'
            f"{origin}{load}{sku}{custom}{segments}}}"
        )

    return encode


_PER_EVENT = frozenset({
    "eventMessage", "eventTime", "contextCpuPercentage", "contextMemoryPercentage", "customProperties",
})  # fmt: skip


@functools.lru_cache(maxsize=100, typed=True)
def _load_text(cpu: float, memory: float) -> str:
    (text,) = json_body.split_at((), {"contextCpuPercentage": cpu, "contextMemoryPercentage": memory})
    return text


def _custom_text(extras: Mapping[str, Any]) -> str:
    """The JSON text of custom data that has only extras."""
    if len(extras) > SLOTS:
        return f', "customProperties": {json_body.json_text(with_extras(None, extras))}'
    texts = [
        f'"{slot}": {json_body.quote(f"{name}={spelled(extras[name])}")}'
        for slot, name in zip(SLOT_NAMES, sorted(extras), strict=False)
    ]
    return f', "customProperties": {{"stringData": {{{", ".join(texts)}}}}}'
