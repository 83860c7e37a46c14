"""What jKool's event is made of: its keys, severities, source name and properties."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

from ..._support.lazy_pattern import LazyPattern
from ...event.model import Event
from ..protocol import AppContext
from . import json_body
from .source_lines import exception_text

SOURCE_TYPES = (
    "GENERIC", "USER", "APPL", "PROCESS", "APPSERVER", "SERVER", "RUNTIME", "VIRTUAL", "NETWORK", "DEVICE",
    "NETADDR", "GEOADDR", "DATACENTER", "DATASTORE", "CACHE", "SERVICE", "QUEUE", "FILE", "TOPIC",
)
"""The types in a source-fqn (tnt4j's SourceType)."""

SEVERITIES = (
    "NONE", "TRACE", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "FAILURE", "CRITICAL", "FATAL", "HALT",
)

FIELDS = (
    "operation", "type", "time-usec", "msg-text", "severity", "source-fqn", "tracking-id", "corr-id", "exception",
    "resource", "wait-time-used", "source-url", "pid", "tid", "comp-code", "reason-code", "location", "user",
    "start-time-usec", "end-time-usec", "elapsed-time-usec", "msg-size", "encoding", "charset", "mime-type",
    "msg-age", "msg-tag", "parent-tracking-id", "properties", "snapshots",
)
"""The keys of an event in tnt4py (2016), in their order on the wire."""

ACTIVITY_FIELDS = ("status", "id-count", "id-set")
"""Further keys of an activity: TNT4J's names for its status, the number of its events, and their tracking ids."""

EVENT_FIELDS = FIELDS + ACTIVITY_FIELDS

TNT4J = {
    "corr-id": "corrid",
    "wait-time-used": "wait-time-usec",
    "msg-age": "msg-age-usec",
    "parent-tracking-id": "parent-id",
}
"""Key of tnt4py → name in TNT4J's JSON formatter. Times are whole microseconds under either name."""


def fqn_problem(text: object) -> str | None:
    """What is wrong with a source-fqn, or None. Valid: ``TYPE=name``, several joined by ``#``; see `SOURCE_TYPES`."""
    if not isinstance(text, str):
        return "not a text"
    for part in text.split("#"):
        kind, equals, name = part.partition("=")
        if not equals:
            return f"{part!r} is not TYPE=name"
        if kind not in SOURCE_TYPES:
            return f"{kind!r} is none of {', '.join(SOURCE_TYPES)}"
        if not name.strip():
            return f"{kind} has no name"
        if "=" in name:
            return f"the name {name!r} contains '='"
    return None


_FQN_SIGNS = LazyPattern(r"[#=]")


@functools.lru_cache(maxsize=16)
def default_fqn(app: str, host: str, address: str) -> str:
    """``APPL=<app>#SERVER=<host>#NETADDR=<address>``; # and = in names become _: the grammar cannot escape them."""
    sources = {"APPL": app, "SERVER": host, "NETADDR": address}
    return "#".join(f"{kind}={_FQN_SIGNS.sub('_', name.strip()) or 'unknown'}" for kind, name in sources.items())


def severity(level: int, level_name: str) -> str:
    """The level's own name if it is one of the service's eleven severities, else the severity of its number."""
    if level_name in SEVERITIES:
        return level_name
    return next((name for bound, name in _BOUNDS if level <= bound), "FATAL")


_BOUNDS = (
    (4, "NONE"),
    (9, "TRACE"),
    (19, "DEBUG"),
    (24, "INFO"),
    (29, "NOTICE"),
    (39, "WARNING"),
    (49, "ERROR"),
    (59, "CRITICAL"),
)


def tagged(event: Event, context: AppContext) -> dict[str, Any]:
    """The attributes that ``extra={"allTags": [names]}`` picks, with - for _ in names; missing ones are skipped."""
    names = event.extra.get("allTags")
    if not isinstance(names, list):
        return {}
    attributes = {**_record_attributes(event, context), **event.extra}
    picked = {name: attributes[name] for name in names if isinstance(name, str) and attributes.get(name) is not None}
    return {name.replace("_", "-"): value for name, value in picked.items()}


def _record_attributes(event: Event, context: AppContext) -> dict[str, Any]:
    """The attributes of a LogRecord, as far as an event has them."""
    file = os.path.basename(event.path)
    return {
        "name": event.logger,
        "msg": event.message,
        "message": event.message,
        "levelname": event.level_name,
        "levelno": event.level,
        "pathname": event.path,
        "filename": file,
        "module": os.path.splitext(file)[0],
        "lineno": event.line,
        "funcName": event.function,
        "created": event.time,
        "msecs": round(event.time * 1_000_000) % 1_000_000 / 1000,
        "process": event.pid,
        "processName": event.process,
        "thread": event.tid,
        "threadName": event.thread,
        "taskName": event.task,
        "stack_info": event.stack,
        "exc_text": exception_text(event, context),
    }


def properties(event: Event, special_numbers: str) -> Iterator[dict[str, Any]]:
    """Context, extras and stack as properties, without those in allTags, which are keys of the event."""
    extras = {**event.context, **event.extra}
    if event.stack is not None:
        extras.setdefault("stack_info", event.stack)
    all_tags = extras.pop("allTags", None)
    if isinstance(extras.get("trakerr"), dict):
        del extras["trakerr"]  # an instruction for Trakerr, not a value
    for name, value in extras.items():
        if isinstance(all_tags, list) and name in all_tags:
            continue
        if json_body.is_special(value) and special_numbers == json_body.SUPPRESS:
            continue
        yield as_property(name, value)


def as_property(name: str, value: Any) -> dict[str, Any]:
    """A property: ``name``, ``type`` by Python type (ISO 8601 text: date; other types: string), ``value``."""
    if isinstance(value, bool):
        return {"name": name, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"name": name, "type": "int", "value": value}
    if isinstance(value, float):
        return {"name": name, "type": "float", "value": value}
    if isinstance(value, (dict, list)):
        return {"name": name, "type": "string", "value": json_body.readable(value)}
    text = json_body.spelled(value)
    return {"name": name, "type": "date" if DATE.fullmatch(text) else "string", "value": text}


# An event has no date objects: they became ISO 8601 texts when it was made.
DATE = LazyPattern(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d(:\d\d)?)?)?")


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields under TNT4J's names; correlators become a list."""
    newer = {TNT4J.get(key, key): value for key, value in fields.items()}
    correlators = newer.get("corrid")
    if correlators is not None and not isinstance(correlators, list):
        newer["corrid"] = [correlators]
    return newer
