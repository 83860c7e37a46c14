"""The body of a request to Trakerr: AppEvents as JSON. Used in the shipper process."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ...event.model import TRACE_ID, Event
from ..protocol import AppContext
from . import json_body
from .trakerr_event import (  # fmt: skip
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


class Settings(Protocol):
    """The members of `Trakerr` that are used here."""

    @property
    def api_key(self) -> str: ...
    @property
    def app_version(self) -> str: ...
    @property
    def deployment_stage(self) -> str: ...
    @property
    def app_sku(self) -> str: ...
    @property
    def tags(self) -> Sequence[str]: ...
    @property
    def data_center(self) -> str | None: ...
    @property
    def data_center_region(self) -> str | None: ...
    @property
    def app_browser(self) -> str | None: ...
    @property
    def app_browser_version(self) -> str | None: ...
    def __hash__(self) -> int: ...
    @property
    def batch(self) -> str | None: ...
    @property
    def compress(self) -> bool | None: ...
    def app_event(self, event: Event, context: AppContext) -> dict[str, Any]: ...


def body(backend: Settings, events: Sequence[Event], context: AppContext, *, is_plain: bool) -> bytes:
    """The events as one body. ``is_plain``: the backend is no derived class, which may encode them differently."""
    encode = build_fast_encoder(backend, context) if is_plain else json_body.no_fast_path
    texts = [encode(event) or json_body.json_text(backend.app_event(event, context)) for event in events]
    return json_body.body(texts, backend.batch, bool(backend.compress))


def app_event(backend: Settings, event: Event, context: AppContext) -> dict[str, Any]:
    """The event's JSON object. A missing key gets its default; one that the client set to None is left out."""
    fields = _all_fields(backend, event, context, context.load(_time_of(event)))
    return {key: value for key, value in fields.items() if value is not None}


def _all_fields(
    backend: Settings, event: Event, context: AppContext, load: tuple[float, float] | None
) -> dict[str, Any]:
    fields = _common(backend, context)
    fields["eventTime"] = milliseconds(event.time)
    fields["contextCpuPercentage"], fields["contextMemoryPercentage"] = load or (None, None)
    fields.update(_own_fields(backend, event, context))  # unknown keys, which a client may have set, come last
    if fields["apiKey"] is None:
        fields["apiKey"] = backend.api_key
    return fields


def _own_fields(backend: Settings, event: Event, context: AppContext) -> dict[str, Any]:
    """The keys that the event itself has."""
    if event.kind != "trakerr":
        return _of_record(backend, event, context)
    if event.exceptions and "eventStacktrace" not in event.data:
        return {"eventStacktrace": stacktrace(event.exceptions, context.cwd), **event.data}
    return event.data


def _common(backend: Settings, context: AppContext) -> dict[str, Any]:
    """Every key with its default, in the order on the wire."""
    return {
        **_NO_VALUES,
        **environment(),
        "apiKey": backend.api_key,
        "contextAppVersion": backend.app_version,
        "deploymentStage": backend.deployment_stage,
        "contextEnvHostname": context.host,
        "contextAppBrowser": backend.app_browser,
        "contextAppBrowserVersion": backend.app_browser_version,
        "contextDataCenter": backend.data_center,
        "contextDataCenterRegion": backend.data_center_region,
        "contextTags": list(backend.tags),
        "contextAppSku": backend.app_sku or None,
    }


def _of_record(backend: Settings, event: Event, context: AppContext) -> dict[str, Any]:
    """The keys of a log record; ``event.data`` has the defaults of its handler."""
    fields: dict[str, Any] = {}
    if event.data and event.kind == "log":
        fields = {key: event.data[key] for key in FIELDS if key in event.data}
    tags = fields.get("contextTags", backend.tags) or ()
    tags = tags if isinstance(tags, (list, tuple)) else [tags]  # a before_send may have set any value
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
    """The event's time, or the one that a client has given it, in seconds since the epoch.

    0 if the given time is not a number: then no load sample is found for it.
    """
    given = event.data.get("eventTime") if event.kind == "trakerr" else None
    if given is None:
        return event.time
    return given / 1000 if isinstance(given, (int, float)) and not isinstance(given, bool) else 0.0


@functools.lru_cache(maxsize=16)
def build_fast_encoder(backend: Settings, context: AppContext) -> Callable[[Event], str | None]:
    """Return a function that gives a usual event's JSON text, and None for any other event.

    The parts of the text that depend on level and logger only are encoded once.
    """

    @functools.lru_cache(maxsize=json_body.MAX_CACHED)
    def constant_parts(level: int, logger: str) -> list[str]:
        return json_body.split_at(_PER_EVENT, _all_fields(backend, Event(level=level, logger=logger), context, None))

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
