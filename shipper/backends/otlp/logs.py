"""Events as OTLP log records: what an event's fields are called there, and their bytes.

The messages are those of opentelemetry-proto 1.x (``logs/v1/logs.proto``, ``common/v1/common.proto``); the attributes
follow the semantic conventions of 2025 (``code.*``, ``exception.*``, ``log.record.uid``, ``process.*``, ``thread.*``).
A lone surrogate in a text becomes "?": strict receivers refuse a whole request that is not valid UTF-8.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...event.model import SPAN_ID, TRACE_FLAGS, TRACE_ID, Event
from .protobuf import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, delimited, double, fixed32, fixed64, tag, varint

PLACES = 4096
"""Most entries of each cache of encoded attributes: places in programs, threads, keys."""

_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_LAST_SECOND = (1 << 64) // 1_000_000_000 - 1.0

# LogRecord
_TIME = tag(1, FIXED64)
_SEVERITY_NUMBER = tag(2, VARINT)
_SEVERITY_TEXT = tag(3, LENGTH_DELIMITED)
_BODY = tag(5, LENGTH_DELIMITED)
_ATTRIBUTE = tag(6, LENGTH_DELIMITED)
_FLAGS = tag(8, FIXED32)
_TRACE_ID = tag(9, LENGTH_DELIMITED)
_SPAN_ID = tag(10, LENGTH_DELIMITED)
_OBSERVED_TIME = tag(11, FIXED64)
# KeyValue and AnyValue; 1 is also the number of the repeated field in messages that have only one
_KEY = _MEMBER = tag(1, LENGTH_DELIMITED)
_VALUE = tag(2, LENGTH_DELIMITED)
_TEXT = tag(1, LENGTH_DELIMITED)
_BOOL = tag(2, VARINT)
_INT = tag(3, VARINT)
_DOUBLE = tag(4, FIXED64)
_ARRAY = tag(5, LENGTH_DELIMITED)
_MAPPING = tag(6, LENGTH_DELIMITED)
_BYTES = tag(7, LENGTH_DELIMITED)
# ResourceLogs and ScopeLogs
_RESOURCE = _SCOPE = tag(1, LENGTH_DELIMITED)
_CONTENT = tag(2, LENGTH_DELIMITED)

DIRECTIONS = frozenset({"trakerr", "jkool", "allTags"})
"""Extras that are instructions for other backends, not values."""

_SEVERITIES = ((50, 21), (40, 17), (30, 13), (20, 9), (10, 5))
_SEVERITY_TEXTS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_HEXADECIMAL = re.compile(r"[0-9a-f]+")


def request(events: Sequence[Event], resource: bytes, traceback: Callable[[Event], str]) -> bytes:
    """An ExportLogsServiceRequest with one resource; events of one logger follow each other in a scope.

    ``resource``: made by `resource_message`. ``traceback``: returns the exceptions of an event as text.
    """
    scopes: dict[str, list[bytes]] = {}
    for event in events:
        scopes.setdefault(event.logger, []).append(delimited(_CONTENT, log_record(event, traceback)))
    contents = [
        delimited(_CONTENT, b"".join((delimited(_SCOPE, delimited(_KEY, _utf8(logger))), *records)))
        for logger, records in scopes.items()
    ]
    return delimited(_MEMBER, b"".join((delimited(_RESOURCE, resource), *contents)))


def resource_message(attributes: Mapping[str, Any]) -> bytes:
    """A Resource with these attributes."""
    return _key_values(_MEMBER, attributes.items())


def log_record(event: Event, traceback: Callable[[Event], str]) -> bytes:
    """One LogRecord. Its ``log.record.uid`` is the UUID of the event's id: receivers can recognise duplicates by it."""
    # A time as a float is exact to microseconds only.
    nanoseconds = fixed64(round(min(max(event.time, 0.0), _LAST_SECOND) * 1_000_000) * 1_000)
    parts = [
        _TIME,
        nanoseconds,
        _severity(event.level, event.level_name),
        delimited(_BODY, _any_value(event.message or event.data.get("eventMessage") or "")),
        _uid(event),
        _origin(event.path, event.line, event.function),
        _writer(event.pid, event.process, event.tid, event.thread),
    ]
    if event.exceptions:
        parts.append(_exception(event, traceback))
    if event.stack is not None:
        parts.append(_attribute("code.stacktrace", event.stack))
    if event.context or event.extra or event.data or event.task is not None:
        parts.append(_key_values(_ATTRIBUTE, _own_attributes(event).items()))
    if event.context:
        parts.append(_trace(event.context))
    parts += (_OBSERVED_TIME, nanoseconds)
    return b"".join(parts)


def severity_number(level: int) -> int:
    """OTLP's number of a logging level: 9 for INFO, up to 12 for levels below WARNING; 1 to 4 below DEBUG."""
    for standard, number in _SEVERITIES:
        if level >= standard:
            return number + min((level - standard) // 3, 3)
    return 1 + min(max(level, 0) // 3, 3)


def severity_text(level_name: str) -> str:
    """WARN and FATAL for warning and critical, every other level's own name."""
    return _SEVERITY_TEXTS.get(level_name, level_name)


@functools.lru_cache(maxsize=256)
def _severity(level: int, level_name: str) -> bytes:
    number = _SEVERITY_NUMBER + varint(severity_number(level))
    return number + (delimited(_SEVERITY_TEXT, _utf8(severity_text(level_name))) if level_name else b"")


def _uid(event: Event) -> bytes:
    return b"" if event.id is None else _attribute("log.record.uid", event.id.uuid_text)


@functools.lru_cache(maxsize=PLACES)
def _origin(path: str, line: int, function: str) -> bytes:
    said = {"code.file.path": path, "code.line.number": line, "code.function.name": function}
    return _key_values(_ATTRIBUTE, ((key, value) for key, value in said.items() if value))


@functools.lru_cache(maxsize=PLACES)
def _writer(pid: int, process: str, tid: int, thread: str) -> bytes:
    # Not in the resource: one shipper process delivers for many workers.
    said = {"process.pid": pid, "process.name": process, "thread.id": tid, "thread.name": thread}
    return _key_values(_ATTRIBUTE, ((key, value) for key, value in said.items() if value))


def _exception(event: Event, traceback: Callable[[Event], str]) -> bytes:
    first = event.exceptions[0]
    said = {
        "exception.type": first.type.removeprefix("builtins."),
        "exception.message": first.message,
        "exception.stacktrace": traceback(event),
    }
    return _key_values(_ATTRIBUTE, said.items())


def _own_attributes(event: Event) -> dict[str, Any]:
    """Context, extras, the name of the asyncio task, and the fields that a client set as ``<kind>.<field>``."""
    found = {key: value for key, value in event.context.items() if key not in (TRACE_ID, SPAN_ID, TRACE_FLAGS)}
    found.update((key, value) for key, value in event.extra.items() if key not in DIRECTIONS)
    found.update((f"{event.kind}.{key}", value) for key, value in event.data.items())
    if event.task is not None:
        found.setdefault("asyncio.task.name", event.task)
    return found


def _trace(context: Mapping[str, Any]) -> bytes:
    trace_id, span_id = _identifier(context.get(TRACE_ID), 16), _identifier(context.get(SPAN_ID), 8)
    if not trace_id:
        return b""
    flags = context.get(TRACE_FLAGS)
    parts = [delimited(_TRACE_ID, trace_id)]
    if span_id:
        parts.append(delimited(_SPAN_ID, span_id))
    if type(flags) is int and 0 < flags < 1 << 32:
        parts.append(_FLAGS + fixed32(flags))
    return b"".join(parts)


def _identifier(text: object, size: int) -> bytes:
    """The bytes of a hexadecimal id of W3C's trace context; b"" for anything else, and for the invalid id of zeros."""
    if not isinstance(text, str) or len(text) != 2 * size or not _HEXADECIMAL.fullmatch(text):
        return b""
    identifier = bytes.fromhex(text)
    return identifier if any(identifier) else b""


# Values ---------------------------------------------------------------------------------------------------------------


def _key_values(number: bytes, pairs: Iterable[tuple[str, Any]]) -> bytes:
    return b"".join([delimited(number, _key(key) + delimited(_VALUE, _any_value(value))) for key, value in pairs])


def _attribute(key: str, value: Any) -> bytes:
    return delimited(_ATTRIBUTE, _key(key) + delimited(_VALUE, _any_value(value)))


@functools.lru_cache(maxsize=PLACES)
def _key(key: str) -> bytes:
    return delimited(_KEY, _utf8(key))


def _any_value(value: Any) -> bytes:
    """An AnyValue; empty for None. A value without a type in OTLP, such as an int of over 64 bits, becomes text."""
    kind = type(value)
    if kind is str:
        return delimited(_TEXT, _utf8(value))
    if kind is bool:
        return _BOOL + (b"\x01" if value else b"\x00")
    if kind is int:
        if _INT64_MIN <= value <= _INT64_MAX:
            return _INT + varint(value)
        return delimited(_TEXT, str(value).encode())
    if kind is float:
        return _DOUBLE + double(value)
    if value is None:
        return b""
    if kind is dict:
        return delimited(_MAPPING, _key_values(_MEMBER, value.items()))
    if kind is bytes:
        return delimited(_BYTES, value)
    if kind in (list, tuple):
        return delimited(_ARRAY, b"".join([delimited(_MEMBER, _any_value(member)) for member in value]))
    return delimited(_TEXT, _utf8(str(value)))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
