"""What the two services check of a request, and how they answer: bytes in, events and an answer out."""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

TRAKERR_LEVELS = ("debug", "info", "warning", "error", "fatal")

RANKS = {
    "none": 0,
    "trace": 5,
    "debug": 10,
    "info": 20,
    "notice": 25,
    "warning": 30,
    "error": 40,
    "failure": 45,
    "critical": 50,
    "fatal": 55,
    "halt": 60,
}
"""Both services' level names, lower case, in one order: a larger number is worse."""

JSON_TYPE = "application/json"
XML_TYPE = "text/xml; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: header names in lower case, the body as it came."""

    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: str) -> str:
        """The header's value without surrounding blanks, or an empty text."""
        return self.headers.get(name.encode(), b"").decode("latin-1").strip()

    @property
    def media_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answers."""

    status: int
    body: bytes
    media_type: str = JSON_TYPE


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it arrived; ``body`` is its JSON object as text."""

    key: str | None  # what stays the same when the event is sent again; None when the sender named nothing
    time: float | None  # seconds since the epoch, as the event says
    level: str  # as it travels: "warning", "WARNING"
    rank: int  # the level as one of RANKS' numbers
    logger: str
    message: str
    body: str


class Refused(Exception):
    """The service does not take this request: a status and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Session(Protocol):
    """What a service remembers of one connection."""

    authorised: bool


class Service(Protocol):
    """One of the two services."""

    @property
    def name(self) -> str: ...

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        """The events of a good request and its answer. Raises `Refused` for one that the service would not take."""
        ...

    def refusal(self, refused: Refused) -> Reply: ...


class Trakerr:
    """``POST …/api/v1/events``: one AppEvent as a JSON object, or an array of them; the key travels in each event."""

    name = "trakerr"

    def __init__(self, keys: Collection[str] = (), max_body: int = 16 * 1024 * 1024) -> None:
        self._keys = frozenset(keys)
        self._max_body = max_body

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        if request.media_type != JSON_TYPE:
            raise Refused(400, f"Content-Type must be {JSON_TYPE}, not {request.media_type!r}")
        text = _text(request, self._max_body)
        parsed = _parse(text)
        events = parsed if isinstance(parsed, list) else [parsed]
        for index, event in enumerate(events):
            self._check(event, f"event {index}: " if isinstance(parsed, list) else "")
        keys = _idempotency_keys(request.header("idempotency-key"), len(events))
        bodies = [text] if events and events[0] is parsed else [json.dumps(event) for event in events]
        arrivals = [_trakerr_arrival(*each) for each in zip(events, keys, bodies, strict=True)]
        return arrivals, Reply(200, json.dumps({"accepted": len(arrivals)}).encode())

    def refusal(self, refused: Refused) -> Reply:
        return _json_refusal(refused)

    def _check(self, event: object, where: str) -> None:
        if not isinstance(event, dict):
            raise Refused(400, f"{where}an event is a JSON object")
        if not isinstance(event.get("apiKey"), str) or not event["apiKey"]:
            raise Refused(400, f"{where}apiKey must be a text that is not empty")
        if event.get("logLevel") not in TRAKERR_LEVELS:
            raise Refused(400, f"{where}logLevel must be one of {', '.join(TRAKERR_LEVELS)}")
        for name, value in event.items():
            check = _TRAKERR_FIELDS.get(name)
            if check is not None and not check.accepts(value):
                raise Refused(400, f"{where}{name} must be {check.expected}")
        if self._keys and event["apiKey"] not in self._keys:
            raise Refused(401, f"{where}unknown apiKey")


class JKool:
    """``POST /`` or any path: ``<access-request>`` once per connection or a key per request; events as JSON.

    A refused handshake is answered with status 200 and ``<success>false``: in this protocol the body is the answer.
    """

    name = "jkool"

    def __init__(self, tokens: Collection[str] = (), max_body: int = 16 * 1024 * 1024) -> None:
        self._tokens = frozenset(tokens)
        self._max_body = max_body

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        text = _text(request, self._max_body)
        if text.lstrip().startswith("<"):
            return [], self._handshake(text, session)
        if not session.authorised and not self._knows(request.header("x-api-key") or request.header("token")):
            raise Refused(401, "no access-request on this connection and no valid X-API-Key")
        if request.media_type not in _JKOOL_MEDIA_TYPES:
            raise Refused(400, f"Content-Type must be {JSON_TYPE}, not {request.media_type!r}")
        parsed, bodies = _objects(text)
        for index, event in enumerate(parsed):
            _check_jkool(event, f"event {index}: " if len(parsed) > 1 else "")
        arrivals = [_jkool_arrival(event, body) for event, body in zip(parsed, bodies, strict=True)]
        return arrivals, Reply(202, json.dumps({"accepted": len(arrivals)}).encode())

    def refusal(self, refused: Refused) -> Reply:
        if refused.status == 401:
            return Reply(401, _access_response("", refused.reason), XML_TYPE)
        return _json_refusal(refused)

    def _handshake(self, text: str, session: Session) -> Reply:
        found = _ACCESS_REQUEST.fullmatch(text.strip())
        if found is None:
            raise Refused(400, "not an access-request")
        token = html.unescape(found[1])
        session.authorised = self._knows(token)
        return Reply(200, _access_response(token, None if session.authorised else "Invalid access token"), XML_TYPE)

    def _knows(self, token: str) -> bool:
        return token in self._tokens if self._tokens else bool(token)


_ACCESS_REQUEST = re.compile(r"(?:<\?xml[^>]*\?>\s*)?<access-request>\s*<token>([^<]*)</token>\s*</access-request>")
# The public Java client sends its JSON as text/plain.
_JKOOL_MEDIA_TYPES = frozenset({JSON_TYPE, "application/x-ndjson", "text/plain"})


def _access_response(token: str, reason: str | None) -> bytes:
    success = "true" if reason is None else "false"
    because = "" if reason is None else f"<reason>{html.escape(reason)}</reason>"
    answer = f"<access-resp><token>{html.escape(token)}</token><success>{success}</success>{because}</access-resp>"
    return answer.encode("utf-8", "backslashreplace")


def _json_refusal(refused: Refused) -> Reply:
    return Reply(refused.status, json.dumps({"error": refused.reason}).encode())


# Bytes to JSON.


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _text(request: Request, max_body: int) -> str:
    body = request.body
    encoding = request.header("content-encoding").lower()
    if encoding == "gzip":
        body = _gunzip(body, max_body)
    elif encoding not in ("", "identity"):
        raise Refused(400, f"unknown Content-Encoding {encoding!r}")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise Refused(400, f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def _gunzip(body: bytes, max_body: int) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(body, max_body + 1)
    except zlib.error as exc:
        raise Refused(400, f"the body is not gzip: {exc}") from exc
    if len(plain) > max_body:
        raise Refused(413, f"the unpacked body has more than {max_body} bytes")
    if not unzip.eof or unzip.unused_data:
        raise Refused(400, "the body is not one whole gzip member")
    return plain


def _parse(text: str) -> Any:
    try:
        return _decoder.decode(text)
    except ValueError as exc:
        raise Refused(400, f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise Refused(400, "the body is not JSON: nested too deep") from exc


def _objects(text: str) -> tuple[list[Any], list[str]]:
    """The events of a body that is one object, an array, or one object a line; and each one's own text."""
    try:
        parsed = _parse(text)
    except Refused:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return [_parse(line) for line in lines], lines
    if isinstance(parsed, list):
        return parsed, [json.dumps(event) for event in parsed]
    return [parsed], [text]


# Trakerr's fields.


@dataclass(frozen=True, slots=True)
class _Field:
    expected: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


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
        and _is_int(value.get("line"))
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
_TRAKERR_FIELDS = {
    "classification": _TEXT,
    "eventType": _TEXT,
    "eventMessage": _TEXT,
    "eventTime": _Field("whole milliseconds since the epoch", _is_int),
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
    """One key per event: the header for one event; for several, its comma-separated parts, or it with a number."""
    if not header:
        return [None] * count
    if count == 1:
        return [header]
    parts = [part.strip() for part in header.split(",")]
    if len(parts) == count:
        return list(parts)
    return [f"{header}#{index}" for index in range(count)]


def _trakerr_arrival(event: dict[str, Any], key: str | None, body: str) -> Arrival:
    time = event.get("eventTime")
    return Arrival(
        key=key,
        time=None if time is None else time / 1e3,
        level=event["logLevel"],
        rank=RANKS[event["logLevel"]],
        logger=event.get("eventType", ""),
        message=event.get("eventMessage", ""),
        body=body,
    )


# jKool's fields.

# Required by the service's public description; which kind it is says "type".
_REQUIRED = {
    "SNAPSHOT": ("name", "time-usec"),
    "ACTIVITY": ("tracking-id", "operation", "time-usec", "status"),
}
_REQUIRED_OF_EVENTS = ("source-fqn", "tracking-id", "time-usec")


def _check_jkool(event: object, where: str) -> None:
    if not isinstance(event, dict):
        raise Refused(400, f"{where}an event is a JSON object")
    for name in _REQUIRED.get(str(event.get("type")), _REQUIRED_OF_EVENTS):
        if event.get(name) in (None, ""):
            raise Refused(400, f"{where}{name} is required")
    for name in ("source-fqn", "tracking-id", "operation", "name", "severity", "msg-text", "type"):
        if name in event and not isinstance(event[name], str):
            raise Refused(400, f"{where}{name} must be a text")
    if not _is_int(event["time-usec"]):
        raise Refused(400, f"{where}time-usec must be whole microseconds since the epoch")
    if event.get("severity", "INFO").lower() not in RANKS:
        raise Refused(400, f"{where}severity must be one of {', '.join(RANKS).upper()}")
    _check_members(event, "properties", ("name", "type", "value"), where)
    _check_members(event, "snapshots", ("name", "time-usec"), where)


def _check_members(event: dict[str, Any], name: str, required: tuple[str, ...], where: str) -> None:
    members = event.get(name, [])
    if not isinstance(members, list):
        raise Refused(400, f"{where}{name} must be a list")
    for member in members:
        if not isinstance(member, dict) or not all(field in member for field in required):
            raise Refused(400, f"{where}each of {name} needs {', '.join(required)}")


def _jkool_arrival(event: dict[str, Any], body: str) -> Arrival:
    severity = event.get("severity", "INFO")
    return Arrival(
        key=event.get("tracking-id"),
        time=event["time-usec"] / 1e6,
        level=severity,
        rank=RANKS[severity.lower()],
        logger=event.get("operation", event.get("name", "")),
        message=event.get("msg-text", ""),
        body=body,
    )
