"""The description of the control endpoints in OpenAPI 3.1."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..._version import __version__
from ..faults import SERVICES, Fault
from ..services.service import RANKS

Json = dict[str, Any]

_TEXT, _NUMBER, _WHOLE, _FLAG = ({"type": name} for name in ("string", "number", "integer", "boolean"))
_ANY = {"type": "object"}


def _operation(summary: str, schema: Json, *given: Json) -> Json:
    bad = {"description": "a parameter is wrong, or nothing is there", **_content(_map(_TEXT))}
    responses = {"200": {"description": "done", **_content(schema)}, "4XX": bad}
    return {"summary": summary, "parameters": list(given), "responses": responses}


def _query(name: str, schema: Json, text: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _content(schema: Json) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _map(schema: Json) -> Json:
    return {"type": "object", "additionalProperties": schema}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties}


_SERVICE = _query("service", {"enum": list(SERVICES)}, "only this service")
_SEARCH = _query("q", _TEXT, 'a search line, such as `level:warning logger:shop* extra.order:17 "card refused"`')
_LIMIT = _query("limit", _WHOLE, "at most so many (100)")
_BEFORE = _query("before", _WHOLE, "only smaller ids")
_SINCE, _UNTIL = (_query(name, _NUMBER, "seconds since the epoch") for name in ("since", "until"))
_RECORD = {"name": "name", "in": "path", "required": True, "schema": _TEXT, "description": "number or id"}
_FAULTS = _list(_ref("Fault"))

_PATHS: dict[str, Json] = {
    "counts": {"get": _operation("Counts by service", _map(_ref("Counts")))},
    "keys": {"get": _operation("The distinct keys that arrived", _list(_TEXT), _SERVICE)},
    "events": {
        "get": _operation(
            "Events, newest first; with `after`, oldest first",
            _list(_ref("Event")),
            _SERVICE,
            _query("q", _TEXT, "a text that it contains"),
            _query("level", {"enum": list(RANKS)}, "this level and above"),
            _query("after", _WHOLE, "only larger ids"),
            _BEFORE,
            _LIMIT,
            _query("bodies", {"enum": ["0", "1"]}, "0: without bodies"),
        ),
        "delete": _operation("Forget everything that arrived", _map(_ref("Counts"))),
    },
    "events/{number}": {
        "get": _operation("One event", _ref("Event"), {**_RECORD, "name": "number", "schema": _WHOLE})
    },
    "records": {
        "get": _operation(
            "Records that match, newest first, with their total and a histogram",
            _ANY,
            _SEARCH,
            _SINCE,
            _UNTIL,
            _query("pin", _WHOLE, "no record after this one"),
            _query("offset", _WHOLE, "how many to leave out"),
            _LIMIT,
            _query("buckets", _WHOLE, "parts of the histogram"),
            _query("after", _WHOLE, "only the number of records after this one"),
        )
    },
    "records/{name}": {
        "get": _operation("A record, what each service got, and every attempt", _ref("Record"), _RECORD)
    },
    "records/{name}/related": {"get": _operation("The records of its trace, its tree of activities", _ANY, _RECORD)},
    "requests": {
        "get": _operation(
            "The requests of the services, newest first",
            _list(_ANY),
            _SERVICE,
            _query("failed", {"enum": ["1"]}, "only those that failed"),
            _BEFORE,
            _LIMIT,
        )
    },
    "faults": {
        "get": _operation("The faults that are left", _FAULTS),
        "post": {
            **_operation("Append faults: one, or a list", _FAULTS),
            "requestBody": _content({"oneOf": [_ref("Fault"), _FAULTS]}),
        },
        "delete": _operation("Forget all faults", _FAULTS),
    },
    "stream": {
        "get": {
            "summary": "Server-sent events: counts, faults, the last record and request, after each change",
            "responses": {"200": {"description": "a stream", "content": {"text/event-stream": {"schema": _TEXT}}}},
        }
    },
    "openapi.json": {"get": _operation("This document", _ANY)},
}


def description() -> Json:
    """The OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "shipper receiver: control",
            "version": __version__,
            "description": "What arrived at the local stand-in for Trakerr, jKool and an OpenTelemetry collector, and "
            "what it shall do wrong. From another machine: `Authorization: Bearer <token>`.",
        },
        "paths": {f"/_control/{path}": methods for path, methods in _PATHS.items()},
        "components": {
            "schemas": {"Fault": _fault(), "Counts": _counts(), "Event": _event(), "Record": _record()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _fault() -> Json:
    kinds: Json = {"status": _WHOLE, "count": _WHOLE, "delay": _NUMBER, "seconds": _NUMBER, "retry_after": _TEXT}
    kinds["service"] = {"enum": [*SERVICES, None]}
    names = [each.name for each in fields(Fault) if not each.name.startswith("_")]
    return {**_object(**{name: kinds.get(name, _FLAG) for name in names}), "description": Fault.__doc__}


def _counts() -> Json:
    return _object(**dict.fromkeys(("requests", "events", "keys", "duplicates", "failed"), _WHOLE))


def _event() -> Json:
    texts = dict.fromkeys(("service", "key", "level", "logger", "message"), _TEXT)
    return _object(id=_WHOLE, **texts, time=_NUMBER, received=_NUMBER, copies=_WHOLE, body=_ANY)


def _record() -> Json:
    texts = ("ident", "level", "logger", "message", "app", "host", "pid", "trace", "kind", "parent")
    parts = {"events": _list(_ref("Event")), "attempts": _list(_ANY), "meanwhile": _ANY}
    return _object(id=_WHOLE, at=_NUMBER, **dict.fromkeys(texts, _TEXT), **parts)
