"""The stand-in for jKool: the handshake, which fields an event must have, and what is answered."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from .facts import Facts, as_text, dotted, first_text, spelled
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
    read_objects,
)

XML_TYPE = "text/xml; charset=utf-8"


class JKool:
    """``POST /`` or any path: ``<access-request>`` once per connection or a key per request; events as JSON.

    A refused handshake is answered with status 200 and ``<success>false``: in this protocol the body is the answer.
    """

    name = "jkool"

    def __init__(self, tokens: Collection[str] = (), max_body: int = 16 * 1024 * 1024) -> None:
        self._tokens = frozenset(tokens)
        self._max_body = max_body

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        text = body_text(request, self._max_body)
        if text.lstrip().startswith("<"):
            return [], self._handshake(text, session)
        if not session.authorised and not self._knows(request.header("x-api-key") or request.header("token")):
            raise Refused(401, "no access-request on this connection and no valid X-API-Key")
        if request.media_type not in _MEDIA_TYPES:
            raise Refused(400, f"Content-Type must be {JSON_TYPE}, not {request.media_type!r}")
        parsed, bodies = read_objects(text)
        for index, event in enumerate(parsed):
            _check(event, f"event {index}: " if len(parsed) > 1 else "")
        arrivals = [_arrival(event, body) for event, body in zip(parsed, bodies, strict=True)]
        return arrivals, Reply(202, json.dumps({"accepted": len(arrivals)}).encode())

    def refusal(self, refused: Refused) -> Reply:
        if refused.status == 401:
            return Reply(401, _access_response("", refused.reason), XML_TYPE)
        return json_refusal(refused)

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
_MEDIA_TYPES = frozenset({JSON_TYPE, "application/x-ndjson", "text/plain"})


def _access_response(token: str, reason: str | None) -> bytes:
    success = "true" if reason is None else "false"
    because = "" if reason is None else f"<reason>{html.escape(reason)}</reason>"
    answer = f"<access-resp><token>{html.escape(token)}</token><success>{success}</success>{because}</access-resp>"
    return answer.encode("utf-8", "backslashreplace")


# Fields that the service's public description requires, by the event's "type".
_REQUIRED = {
    "SNAPSHOT": ("name", "time-usec"),
    "ACTIVITY": ("tracking-id", "operation", "time-usec", "status"),
}
_REQUIRED_OF_EVENTS = ("source-fqn", "tracking-id", "time-usec")


def _check(event: object, where: str) -> None:
    if not isinstance(event, dict):
        raise Refused(400, f"{where}an event is a JSON object")
    for name in _REQUIRED.get(str(event.get("type")), _REQUIRED_OF_EVENTS):
        if event.get(name) in (None, ""):
            raise Refused(400, f"{where}{name} is required")
    for name in ("source-fqn", "tracking-id", "operation", "name", "severity", "msg-text", "type"):
        if name in event and not isinstance(event[name], str):
            raise Refused(400, f"{where}{name} must be a text")
    if not is_whole_number(event["time-usec"]):
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
        if not isinstance(member, dict) or not all(map(member.__contains__, required)):
            raise Refused(400, f"{where}each of {name} needs {', '.join(required)}")


def _arrival(event: dict[str, Any], body: str) -> Arrival:
    severity = event.get("severity", "INFO")
    return Arrival(
        key=event.get("tracking-id"),
        time=event["time-usec"] / 1e6,
        level=severity,
        rank=RANKS[severity.lower()],
        logger=event.get("operation", event.get("name", "")),
        message=event.get("msg-text", ""),
        body=body,
        facts=_facts(event),
    )


def _facts(event: dict[str, Any]) -> Facts:
    sources = _sources(event.get("source-fqn", ""))
    extras = dotted({as_text(each["name"]): _plain(each["value"]) for each in event.get("properties", ())})
    return Facts(
        weight=2,
        logger=event.get("operation", event.get("name", "")),
        app=sources.get("APPL", ""),
        host=sources.get("SERVER", ""),
        pid=as_text(event.get("pid")),
        trace=first_text(event.get("corr-id", event.get("corrid"))) or extras.get("trace_id", ""),
        kind=_KINDS.get(event.get("type", ""), "log"),
        parent=first_text(event.get("parent-tracking-id", event.get("parent-id"))),
        members=_members(event.get("id-set")),
        took=_seconds(event.get("elapsed-time-usec")),
        extras=extras,
        words=_words(event),
    )


_KINDS = {"ACTIVITY": "activity", "SNAPSHOT": "snapshot"}
_SEARCHED = ("exception", "location", "user", "resource", "source-fqn", "msg-tag", "status")
_HANDLED = frozenset({"msg-text", "operation", "properties", "tracking-id", "time-usec", "severity", "type", "id-set"})


@lru_cache(maxsize=256)
def _sources(fqn: str) -> Mapping[str, str]:
    """The names in ``APPL=shop#SERVER=web`` by type. Cached, since all events of an application have the same one."""
    return {kind: name for kind, _, name in (part.partition("=") for part in fqn.split("#"))}


def _plain(value: Any) -> Any:
    """A property's value; an object that is JSON text, as shipper sends it, becomes an object again."""
    if not isinstance(value, str) or value[:1] != "{":
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _members(ids: Any) -> tuple[str, ...]:
    return tuple(each for each in ids if isinstance(each, str)) if isinstance(ids, list) else ()


def _seconds(microseconds: Any) -> float | None:
    return microseconds / 1e6 if is_whole_number(microseconds) else None


def _words(event: dict[str, Any]) -> str:
    return " ".join(
        as_text(value) if name in _SEARCHED else f"{name}={spelled(value)}"
        for name, value in event.items()
        if name not in _HANDLED
    )
