"""The body of a request to jKool: events as JSON. Used in the shipper process."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ...event.model import TRACE_ID, Event
from ..protocol import AppContext
from . import json_body
from .jkool_event import (  # fmt: skip
    DATE,
    EVENT_FIELDS,
    FIELDS,
    as_property,
    default_fqn,
    properties,
    renamed,
    severity,
    tagged,
)
from .source_lines import exception_text


class Settings(Protocol):
    """The members of `JKool` that are used here."""

    @property
    def source_fqn(self) -> str | None: ...
    @property
    def keys(self) -> str: ...
    @property
    def special_numbers(self) -> str: ...
    def __hash__(self) -> int: ...
    @property
    def batch(self) -> str | None: ...
    @property
    def compress(self) -> bool | None: ...
    def wire_event(self, event: Event, context: AppContext) -> dict[str, Any]: ...


def body(backend: Settings, events: Sequence[Event], context: AppContext, *, is_plain: bool) -> bytes:
    """The events as one body. ``is_plain``: the backend is no derived class, which may encode them differently."""
    encode = build_fast_encoder(backend, context) if is_plain else json_body.no_fast_path

    def text(event: Event) -> str:
        return json_body.json_text(backend.wire_event(event, context), backend.special_numbers)

    return json_body.body([encode(event) or text(event) for event in events], backend.batch, bool(backend.compress))


def wire_event(backend: Settings, event: Event, context: AppContext) -> dict[str, Any]:
    """The event's JSON object, without keys whose value is None."""
    fields = _of_record(backend, event, context)
    picked = tagged(event, context) if "allTags" in event.extra else {}
    if picked or event.data:
        fields.update(picked)
        # The Trakerr client's keys are not sent to jKool.
        fields.update({key: event.data[key] for key in EVENT_FIELDS if key in event.data})
        known = {key: fields.pop(key) for key in FIELDS if key in fields}
        fields = {**known, **fields}
    present = {key: value for key, value in fields.items() if value is not None}
    return present if backend.keys == "2016" else renamed(present)


def _of_record(backend: Settings, event: Event, context: AppContext) -> dict[str, Any]:
    """The keys of a log record, in the order of `FIELDS`."""
    return {
        "operation": event.logger or event.data.get("eventType") or "root",
        "type": "EVENT",
        "time-usec": round(event.time * 1_000_000),
        "msg-text": event.message or event.data.get("eventMessage") or "",
        "severity": severity(event.level, event.level_name),
        "source-fqn": backend.source_fqn or default_fqn(context.app, context.host, context.address),
        "tracking-id": None if event.id is None else event.id.uuid_text,
        "corr-id": event.context.get(TRACE_ID) or None,
        "exception": exception_text(event, context),
        "pid": event.pid or None,
        "tid": event.tid or None,
        "location": f"{event.path}:{event.line}" if event.path else None,
        "properties": list(properties(event, backend.special_numbers)) or None,
    }


@functools.lru_cache(maxsize=16)
def build_fast_encoder(backend: Settings, context: AppContext) -> Callable[[Event], str | None]:
    """Return a function that gives a usual event's JSON text, and None for any other event.

    The parts of the text that depend on the logging call only are encoded once.
    """
    special_numbers = backend.special_numbers

    @functools.lru_cache(maxsize=json_body.MAX_CACHED)
    def constant_parts(level: int, level_name: str, logger: str, path: str, line: int) -> list[str]:
        event = Event(level=level, level_name=level_name, logger=logger, path=path, line=line)
        return json_body.split_at(_PER_EVENT, _of_record(backend, event, context))

    def encode(event: Event) -> str | None:
        if event.exceptions or event.data or event.stack is not None or event.id is None:
            return None
        extras = {**event.context, **event.extra} if event.context else event.extra
        if "allTags" in extras or "trakerr" in extras or TRACE_ID in event.context:
            return None
        begin, origin, location = constant_parts(event.level, event.level_name, event.logger, event.path, event.line)
        pid = f', "pid": {event.pid}' if event.pid else ""
        tid = f', "tid": {event.tid}' if event.tid else ""
        texts = ", ".join(_property_texts(extras, special_numbers)) if extras else ""
        if texts:
            texts = f', "properties": [{texts}]'
        return (
            f'{{{begin[2:]}, "time-usec": {round(event.time * 1_000_000)}, "msg-text": {json_body.quote(event.message)}'
            f'{origin}, "tracking-id": "{event.id.uuid_text}"{pid}{tid}{location}{texts}}}'
        )

    return encode


_PER_EVENT = frozenset({
    "time-usec", "msg-text", "tracking-id", "corr-id", "exception", "pid", "tid", "properties",
})  # fmt: skip


def _property_texts(extras: Mapping[str, Any], special_numbers: str) -> list[str]:
    """The JSON text of each property."""
    quote = json_body.quote
    texts: list[str] = []
    for name, value in extras.items():
        kind = type(value)
        if kind is str and (value[4:5] != "-" or not DATE.fullmatch(value)):
            texts.append(f'{{"name": {quote(name)}, "type": "string", "value": {quote(value)}}}')
        elif kind is int:
            texts.append(f'{{"name": {quote(name)}, "type": "int", "value": {value}}}')
        elif kind is float and math.isfinite(value):
            texts.append(f'{{"name": {quote(name)}, "type": "float", "value": {value!r}}}')
        elif kind is not float or special_numbers != json_body.SUPPRESS:
            texts.append(json_body.json_text(as_property(name, value), special_numbers))
    return texts
