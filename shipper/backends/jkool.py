"""jKool (now meshIQ): one event as JSON per POST; a handshake on every connection, the key on every request."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from .._support.lazy_pattern import LazyPattern
from .._version import __version__
from ..errors import ConfigurationError, DeliveryError, UnauthorisedError, suggest_keywords
from ..event.model import TRACE_ID, Event
from . import validators
from .http_settings import HttpSettings
from .protocol import AppContext, HttpResponse
from .wire import json_body
from .wire.jkool_event import (  # fmt: skip
    DATE,
    EVENT_FIELDS,
    FIELDS,
    as_property,
    default_fqn,
    fqn_problem,
    properties,
    renamed,
    severity,
    tagged,
)
from .wire.source_lines import exception_text

_ACCESS_RESPONSE = LazyPattern(r"\s*(<\?xml[^>]*>\s*)?<access-resp\b", re.IGNORECASE)
_SUCCESS = LazyPattern(r"<success>([^<]*)</success>", re.IGNORECASE)
_REASON = LazyPattern(r"<reason>([^<]*)</reason>", re.IGNORECASE)

@suggest_keywords
@dataclass(frozen=True)
class JKool(HttpSettings):
    """Sends events to jKool. Raises ConfigurationError for a wrong value.

    ``token`` is sent with each request and in the handshake. ``url``: the service's address. ``source_fqn``: the source
    of all events, in place of ``APPL=<app>#SERVER=<host>#NETADDR=<address>``. ``handshake=False`` leaves out the
    access-request that opens every connection. ``keys``: "2016", or "tnt4j" for the newer names. ``special_numbers``:
    NaN and infinities are left out ("suppress") or quoted ("enquote"). ``batch``: "array" or "lines" (one object per
    line), for gateways that take them. The other settings are those of `HttpSettings`; ``level`` is INFO by default.
    """

    token: str = field(repr=False)
    url: str = "https://data.jkoolcloud.com"
    _: KW_ONLY
    source_fqn: str | None = None
    handshake: bool = True
    level: int = logging.INFO
    keys: str = "2016"
    special_numbers: str = json_body.SUPPRESS
    name: str = "jkool"

    def __post_init__(self) -> None:
        validators.secret("JKool.token", self.token)
        validators.url("JKool.url", self.url)
        problem = None if self.source_fqn is None else fqn_problem(self.source_fqn)
        if problem is not None:
            raise ConfigurationError("JKool.source_fqn", self.source_fqn, f"must be TYPE=name#TYPE=name…; {problem}")
        validators.flag("JKool.handshake", self.handshake)
        self._set("keys", validators.one_of("JKool.keys", self.keys, ("2016", "tnt4j")))
        choices = (json_body.SUPPRESS, json_body.ENQUOTE)
        self._set("special_numbers", validators.one_of("JKool.special_numbers", self.special_numbers, choices))
        self._check_http("JKool", (None, "array", "lines"))

    @property
    def max_events(self) -> int:
        return 1 if self.batch is None else 500

    @property
    def destination(self) -> tuple[str, str]:
        """URL and token: equal for backends that send to the same place."""
        return self.endpoint, self.token

    @property
    def endpoint(self) -> str:
        """The URL without query and fragment, as tnt4py sends it."""
        parts = validators.split(self.url)
        return parts._replace(path=parts.path or "/", query="", fragment="").geturl()

    def headers(self, context: AppContext) -> Mapping[str, str]:
        import platform  # used in the shipper process only

        own = {
            "Content-Type": "application/x-ndjson" if self.batch == "lines" else "application/json",
            "X-API-Key": self.token,
            "X-API-Host-Name": context.host,
            "X-API-Host-Addr": context.address,
            "X-API-Runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "X-API-Version": __version__,
        }
        return {**own, "Content-Encoding": "gzip"} if self.compress else own

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        # A derived class may encode events in another way, or may not be hashable.
        encode = build_fast_encoder(self, context) if type(self) is JKool else json_body.no_fast_path
        texts = [encode(event) or self._text(event, context) for event in events]
        return json_body.body(texts, self.batch, bool(self.compress))

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        """The access-request, which opens every connection (tnt4py's `streaming.py`, 2016)."""
        if not self.handshake:
            return None
        import html  # used in the shipper process only: its table of entities is large

        token = html.escape(self.token, quote=False)
        body = f"<access-request><token>{token}</token></access-request>"
        return {"Content-Type": "text/plain", "X-API-Key": self.token}, body.encode()

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        """UnauthorisedError for an access-resp whose success is not true, whatever the status is."""
        if not _ACCESS_RESPONSE.match(response.body):
            return None
        success = _SUCCESS.search(response.body)
        if success is None or success[1].strip().lower() == "true":
            return None
        import html

        given = _REASON.search(response.body)
        reason = html.unescape(given[1].strip()) if given else f"success={success[1].strip()}"
        return UnauthorisedError(f"access refused: {reason}", status=response.status, body=response.body)

    def _text(self, event: Event, context: AppContext) -> str:
        return json_body.json_text(self.wire_event(event, context), self.special_numbers)

    def wire_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The event's JSON object, without keys that the client set to None."""
        fields = self._of_record(event, context)
        picked = tagged(event, context) if "allTags" in event.extra else {}
        if picked or event.data:
            fields.update(picked)
            # The Trakerr client's keys are not sent to jKool.
            fields.update({key: event.data[key] for key in EVENT_FIELDS if key in event.data})
            known = {key: fields.pop(key) for key in FIELDS if key in fields}
            fields = {**known, **fields}
        present = {key: value for key, value in fields.items() if value is not None}
        return present if self.keys == "2016" else renamed(present)

    def _of_record(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The keys of a log record, in the order of `FIELDS`."""
        return {
            "operation": event.logger or event.data.get("eventType") or "root",
            "type": "EVENT",
            "time-usec": round(event.time * 1_000_000),
            "msg-text": event.message or event.data.get("eventMessage") or "",
            "severity": severity(event.level, event.level_name),
            "source-fqn": self.source_fqn or default_fqn(context.app, context.host, context.address),
            "tracking-id": None if event.id is None else event.id.uuid_text,
            "corr-id": event.context.get(TRACE_ID) or None,
            "exception": exception_text(event, context),
            "pid": event.pid or None,
            "tid": event.tid or None,
            "location": f"{event.path}:{event.line}" if event.path else None,
            "properties": list(properties(event, self.special_numbers)) or None,
        }


@functools.lru_cache(maxsize=16)
def build_fast_encoder(backend: JKool, context: AppContext) -> Callable[[Event], str | None]:
    """Return a function that gives a usual event's JSON text, and None for any other event.

    The parts of the text that depend on the logging call only are encoded once.
    """
    special_numbers = backend.special_numbers

    @functools.lru_cache(maxsize=json_body.MAX_CACHED)
    def constant_parts(level: int, level_name: str, logger: str, path: str, line: int) -> list[str]:
        event = Event(level=level, level_name=level_name, logger=logger, path=path, line=line)
        return json_body.split_at(_PER_EVENT, backend._of_record(event, context))

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
