"""The stand-in for an OpenTelemetry collector: OTLP log records over HTTP, as protobuf or as JSON.

A record is kept as one JSON object: its own values, the resource's attributes, the scope's name. Attributes are plain
values for people to read, not OTLP's JSON encoding. Duplicates are recognised by the attribute ``log.record.uid``.
"""

from __future__ import annotations

import base64
import json
import math
import string
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...backends.otlp import protobuf
from .facts import Facts, as_text, dotted
from .service import JSON_TYPE, RANKS, Arrival, Refused, Reply, Request, Session, body_bytes, parse, text_of

LOGS_PATH = "/v1/logs"
PROTOBUF_TYPE = "application/x-protobuf"
MAX_DEPTH = 60  # of nested values; deeper ones are refused

Record = dict[str, Any]

_SEVERITIES = ((21, "fatal"), (17, "error"), (13, "warning"), (9, "info"), (5, "debug"), (1, "trace"))


class Otlp:
    """``POST /v1/logs`` with protobuf or JSON, gzipped or not. No key is needed."""

    name = "otlp"

    def __init__(self, max_body: int = 16 * 1024 * 1024) -> None:
        self._max_body = max_body

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        body = body_bytes(request, self._max_body)
        if request.media_type == PROTOBUF_TYPE:
            return [_arrival(record) for record in records_of_protobuf(body)], Reply(200, b"", PROTOBUF_TYPE)
        if request.media_type == JSON_TYPE:
            return [_arrival(record) for record in records_of_json(parse(text_of(body)))], Reply(200, b"{}")
        raise Refused(415, f"Content-Type must be {PROTOBUF_TYPE} or {JSON_TYPE}, not {request.media_type!r}")

    def refusal(self, refused: Refused) -> Reply:
        return Reply(refused.status, json.dumps({"message": refused.reason}).encode())


def _arrival(record: Record) -> Arrival:
    level = record["severityText"] or _level(record["severityNumber"])
    body = record["body"]
    uid = record["attributes"].get("log.record.uid")
    return Arrival(
        key=uid if isinstance(uid, str) else None,
        time=record["timeUnixNano"] / 1e9 or None,
        level=level,
        rank=RANKS.get(_level(record["severityNumber"]), 0),
        logger=record["scope"],
        message=body if isinstance(body, str) else "" if body is None else json.dumps(body),
        body=json.dumps(record),
        facts=_facts(record),
    )


def _facts(record: Record) -> Facts:
    attributes, resource = record["attributes"], record["resource"]
    extras = dotted({name: value for name, value in attributes.items() if not name.startswith(_CONVENTIONS)})
    known = (value for name, value in attributes.items() if name.startswith(_CONVENTIONS))
    return Facts(
        weight=3,
        logger=record["scope"],
        app=as_text(resource.get("service.name")),
        host=as_text(resource.get("host.name")),
        pid=as_text(attributes.get("process.pid")),
        trace=record["traceId"] or as_text(attributes.get("trace_id")),
        extras=extras,
        words=" ".join(map(as_text, known)),
    )


_CONVENTIONS = ("log.record.", "code.", "process.", "thread.", "exception.", "asyncio.task.")
"""Prefixes of the attributes that do not come from the application's own fields."""


def _level(number: int) -> str:
    return next((name for least, name in _SEVERITIES if number >= least), "none")


def _record(resource: Record, scope: str, attributes: Record, **values: Any) -> Record:
    return {
        "timeUnixNano": values.get("time") or values.get("observed") or 0,
        "severityNumber": values.get("severity", 0),
        "severityText": values.get("severity_text", ""),
        "body": values.get("body"),
        "scope": scope,
        "attributes": attributes,
        "resource": resource,
        "traceId": values.get("trace_id", ""),
        "spanId": values.get("span_id", ""),
        "flags": values.get("flags", 0),
    }


# Protobuf -------------------------------------------------------------------------------------------------------------


def records_of_protobuf(body: bytes) -> list[Record]:
    """The log records of an ExportLogsServiceRequest. Raises `Refused` for any other bytes."""
    try:
        return [
            record
            for number, resource_logs in protobuf.fields(body)
            if number == 1
            for record in _of_resource(_bytes(resource_logs))
        ]
    except (ValueError, struct.error) as exc:
        raise Refused(400, f"the body is no ExportLogsServiceRequest: {exc}") from exc


def _of_resource(message: bytes) -> Iterator[Record]:
    members = list(protobuf.fields(message))
    resource: Record = {}
    for number, value in members:
        if number == 1:
            resource.update(_attributes(_bytes(value), 1))
    for number, value in members:
        if number == 2:
            yield from _of_scope(_bytes(value), resource)


def _of_scope(message: bytes, resource: Record) -> Iterator[Record]:
    members = list(protobuf.fields(message))
    scope = ""
    for number, value in members:
        if number == 1:
            scope = next((_text(name) for field, name in protobuf.fields(_bytes(value)) if field == 1), "")
    for number, value in members:
        if number == 2:
            yield _of_log_record(_bytes(value), scope, resource)


def _fixed(value: int | bytes) -> int:
    return int.from_bytes(_bytes(value), "little")


_RECORD_FIELDS: dict[int, tuple[str, Callable[[Any], Any]]] = {
    1: ("time", _fixed),
    2: ("severity", int),
    3: ("severity_text", lambda value: _text(value)),
    5: ("body", lambda value: _value(_bytes(value))),
    8: ("flags", _fixed),
    9: ("trace_id", lambda value: _bytes(value).hex()),
    10: ("span_id", lambda value: _bytes(value).hex()),
    11: ("observed", _fixed),
}
"""Fields of a LogRecord: number → its name in `_record`, and how its value is read."""


def _of_log_record(message: bytes, scope: str, resource: Record) -> Record:
    values: Record = {}
    for number, value in protobuf.fields(message):
        if number in _RECORD_FIELDS:
            name, read = _RECORD_FIELDS[number]
            values[name] = read(value)
    return _record(resource, scope, _attributes(message, 6), **values)


def _attributes(message: bytes, field: int, depth: int = 0) -> Record:
    """The KeyValue members of a message."""
    found: Record = {}
    for number, value in protobuf.fields(message):
        if number == field:
            members = dict(protobuf.fields(_bytes(value)))
            found[_text(members.get(1, b""))] = _value(_bytes(members.get(2, b"")), depth + 1)
    return found


def _value(message: bytes, depth: int = 0) -> Any:
    """An AnyValue as a JSON value; bytes in base64, NaN and infinities as text, as OTLP's JSON encoding has them."""
    if depth > MAX_DEPTH:
        raise ValueError("values are nested too deep")
    result: Any = None
    for number, value in protobuf.fields(message):
        if number == 1:
            result = _text(value)
        elif number == 2:
            result = bool(value)
        elif number == 3 and isinstance(value, int):
            result = protobuf.signed(value)
        elif number == 4:
            result = _number(struct.unpack("<d", _bytes(value))[0])
        elif number == 5:
            members = protobuf.fields(_bytes(value))
            result = [_value(_bytes(member), depth + 1) for field, member in members if field == 1]
        elif number == 6:
            result = _attributes(_bytes(value), 1, depth)
        elif number == 7:
            result = base64.b64encode(_bytes(value)).decode()
    return result


def _number(number: float) -> float | str:
    return number if math.isfinite(number) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[repr(number)]


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode()


# JSON -----------------------------------------------------------------------------------------------------------------


def records_of_json(body: Any) -> list[Record]:
    """The log records of a request in OTLP's JSON encoding. Raises `Refused` for any other value."""
    try:
        if not isinstance(body, dict):
            raise ValueError("it must be an object")
        return [
            _of_json_record(record, str(_member(scope_logs, "scope").get("name", "")), resource)
            for resource_logs in _list(body, "resourceLogs")
            for resource in [_json_attributes(_member(resource_logs, "resource"))]
            for scope_logs in _list(resource_logs, "scopeLogs")
            for record in _list(scope_logs, "logRecords")
        ]
    except (TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise Refused(400, f"the body is no ExportLogsServiceRequest: {exc}") from exc


def _of_json_record(record: Mapping[str, Any], scope: str, resource: Record) -> Record:
    return _record(
        resource,
        scope,
        _json_attributes(record),
        time=_whole(record, "timeUnixNano"),
        observed=_whole(record, "observedTimeUnixNano"),
        severity=_whole(record, "severityNumber"),
        severity_text=str(record.get("severityText", "")),
        body=_json_value(record.get("body") or {}),
        trace_id=_hex(record, "traceId", 32),
        span_id=_hex(record, "spanId", 16),
        flags=_whole(record, "flags"),
    )


def _json_attributes(value: Mapping[str, Any]) -> Record:
    return {str(each.get("key", "")): _json_value(each.get("value") or {}) for each in _list(value, "attributes")}


def _json_value(value: Mapping[str, Any]) -> Any:
    for name, content in value.items():
        if name == "intValue":  # usually text, since JSON's numbers have 53 bits
            return _whole(value, name)
        if name == "arrayValue":
            return [_json_value(member) for member in _list(content, "values")]
        if name == "kvlistValue":
            return {str(each.get("key", "")): _json_value(each.get("value") or {}) for each in _list(content, "values")}
        if name in ("stringValue", "boolValue", "doubleValue", "bytesValue"):
            return content
    return None


def _member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be an object")
    return found


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{name} must be a list of objects")
    return found


def _whole(value: Mapping[str, Any], name: str) -> int:
    """A whole number of 64 bits, given as number or text; 0 if missing. Names of severities are refused, as in OTLP."""
    found = value.get(name) or 0
    try:
        number = int(found)
    except (TypeError, ValueError, OverflowError):
        number = 2**64
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"{name} must be a whole number of 64 bits, not {found!r:.50}")
    return number


def _hex(value: Mapping[str, Any], name: str, digits: int) -> str:
    """An id of ``digits`` hexadecimal digits, in lower case like ids from protobuf; "" if missing."""
    found = value.get(name) or ""
    if found and (not isinstance(found, str) or len(found) != digits or not set(found) <= set(string.hexdigits)):
        raise ValueError(f"{name} must be {digits} hexadecimal digits")
    return str(found).lower()
