"""The stand-in for Trakerr: which fields an event must have, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from .facts import Facts, as_text, dotted, spelled
from .service import (
    JSON_TYPE,
    RANKS,
    Arrival,
    Refused,
    Reply,
    Request,
    Session,
    body_text,
    is_whole_number,
    json_refusal,
    read_members,
)

LEVELS = ("debug", "info", "warning", "error", "fatal")


class Trakerr:
    """``POST …/api/v1/events``: one AppEvent as a JSON object, or an array of them; the key travels in each event."""

    name = "trakerr"

    def __init__(self, keys: Collection[str] = (), max_body: int = 16 * 1024 * 1024) -> None:
        self._keys = frozenset(keys)
        self._max_body = max_body

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        if request.media_type != JSON_TYPE:
            raise Refused(400, f"Content-Type must be {JSON_TYPE}, not {request.media_type!r}")
        text = body_text(request, self._max_body)
        events, bodies = read_members(text)
        is_one = bodies == [text]
        for index, event in enumerate(events):
            self._check(event, "" if is_one else f"event {index}: ")
        keys = _idempotency_keys(request.header("idempotency-key"), len(events))
        arrivals = [_arrival(*each) for each in zip(events, keys, bodies, strict=True)]
        return arrivals, Reply(200, json.dumps({"accepted": len(arrivals)}).encode())

    def refusal(self, refused: Refused) -> Reply:
        return json_refusal(refused)

    def _check(self, event: object, where: str) -> None:
        if not isinstance(event, dict):
            raise Refused(400, f"{where}an event is a JSON object")
        if not isinstance(event.get("apiKey"), str) or not event["apiKey"]:
            raise Refused(400, f"{where}apiKey must be a text that is not empty")
        if event.get("logLevel") not in LEVELS:
            raise Refused(400, f"{where}logLevel must be one of {', '.join(LEVELS)}")
        for name, value in event.items():
            check = _FIELDS.get(name)
            if check is not None and not check.accepts(value):
                raise Refused(400, f"{where}{name} must be {check.expected}")
        if self._keys and event["apiKey"] not in self._keys:
            raise Refused(401, f"{where}unknown apiKey")


@dataclass(frozen=True, slots=True)
class _Field:
    expected: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_timing(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_tags(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(tag, str) for tag in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_trace_line(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("function"))
        and is_whole_number(value.get("line"))
        and _is_text(value.get("file"))
    )


def _is_inner_stacktrace(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("type"))
        and _is_text(value.get("message"))
        and isinstance(value.get("traceLines"), list)
        and all(_is_trace_line(line) for line in value["traceLines"])
    )


def _is_stacktrace(value: Any) -> bool:
    return isinstance(value, list) and all(_is_inner_stacktrace(member) for member in value)


_TEXT = _Field("a text", _is_text)
_NUMBER = _Field("a number", _is_number)
_CUSTOM = _Field("an object", _is_object)
_FIELDS = {
    "classification": _TEXT,
    "eventType": _TEXT,
    "eventMessage": _TEXT,
    "eventTime": _Field("whole milliseconds since the epoch", is_whole_number),
    "eventStacktrace": _Field("a list of {type, message, traceLines: [{function, line, file}]}", _is_stacktrace),
    "contextAppVersion": _TEXT,
    "deploymentStage": _TEXT,
    "contextEnvName": _TEXT,
    "contextEnvLanguage": _TEXT,
    "contextEnvVersion": _TEXT,
    "contextEnvHostname": _TEXT,
    "contextAppBrowser": _TEXT,
    "contextAppBrowserVersion": _TEXT,
    "contextAppOS": _TEXT,
    "contextAppOSVersion": _TEXT,
    "contextDataCenter": _TEXT,
    "contextDataCenterRegion": _TEXT,
    "contextTags": _Field("a list of texts", _is_tags),
    "contextURL": _TEXT,
    "contextOperationTimeMillis": _Field("a number or a text", _is_timing),
    "contextCpuPercentage": _NUMBER,
    "contextMemoryPercentage": _NUMBER,
    "contextCrossAppCorrelationId": _TEXT,
    "contextDevice": _TEXT,
    "contextAppSku": _TEXT,
    "customProperties": _CUSTOM,
    "customSegments": _CUSTOM,
}


def _idempotency_keys(header: str, count: int) -> list[str | None]:
    """One key per event, None without the header.

    It is the header for one event; for several, its comma-separated parts if there are as many, else the header with
    ``#0``, ``#1``, …
    """
    if not header:
        return [None] * count
    if count == 1:
        return [header]
    parts = [part.strip() for part in header.split(",")]
    if len(parts) == count:
        return list(parts)
    return [f"{header}#{index}" for index in range(count)]


def _arrival(event: dict[str, Any], key: str | None, body: str) -> Arrival:
    time = event.get("eventTime")
    return Arrival(
        key=key,
        time=None if time is None else time / 1e3,
        level=event["logLevel"],
        rank=RANKS[event["logLevel"]],
        logger=event.get("eventType", ""),
        message=event.get("eventMessage", ""),
        body=body,
        facts=_facts(event),
    )


def _facts(event: dict[str, Any]) -> Facts:
    extras = _extras(event)
    return Facts(
        weight=1,
        logger=_logger(event),
        host=event.get("contextEnvHostname", ""),
        trace=event.get("contextCrossAppCorrelationId", "") or extras.get("trace_id", ""),
        extras=extras,
        words=_words(event),
    )


def _logger(event: dict[str, Any]) -> str:
    """The logger's name: the event's type; with a stack trace, whose exception is the type, the last tag."""
    tags = event.get("contextTags")
    return str(tags[-1]) if tags and event.get("eventStacktrace") else str(event.get("eventType", ""))


def _extras(event: dict[str, Any]) -> dict[str, str]:
    """The custom data by dotted names; a slot with ``name=value``, as shipper fills it, counts under that name."""
    found: dict[str, str] = {}
    for name in ("customProperties", "customSegments"):
        for kind, slots in event.get(name, {}).items():
            for slot, value in slots.items() if isinstance(slots, dict) else [(kind, slots)]:
                key, equals, text = value.partition("=") if isinstance(value, str) else ("", "", "")
                found.update({key: text} if equals and key.strip() else dotted({slot: value}))
    return found


def _words(event: dict[str, Any]) -> str:
    raised = [
        f"{one['type']}: {one['message']} {' '.join(line['file'] for line in one['traceLines'])}"
        for one in event.get("eventStacktrace", ())
    ]
    said = (as_text(event.get("eventUser")), as_text(event.get("eventSession")), event.get("contextURL", ""))
    rest = [f"{name}={spelled(value)}" for name, value in event.items() if name not in _FIELDS and name not in _KNOWN]
    return " ".join([*said, *event.get("contextTags", ()), *raised, *rest])


_KNOWN = frozenset({"apiKey", "logLevel", "eventUser", "eventSession"})
