"""jKool (now meshIQ): one event as JSON per POST; a handshake on every connection, the key on every request."""

from __future__ import annotations

import functools
import linecache
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .._support.lazy_pattern import Expression
from .._support.values import KW_ONLY, Values, field
from .._version import __version__
from ..errors import ConfigurationError, DeliveryError, UnauthorisedError
from ..event.model import Event
from ..event.tracebacks import traceback_text
from . import json_body, validators
from .deprecated import OldMethodNames
from .protocol import AppContext, HttpResponse

SOURCE_TYPES = (
    "GENERIC", "USER", "APPL", "PROCESS", "APPSERVER", "SERVER", "RUNTIME", "VIRTUAL", "NETWORK", "DEVICE",
    "NETADDR", "GEOADDR", "DATACENTER", "DATASTORE", "CACHE", "SERVICE", "QUEUE", "FILE", "TOPIC",
)
"""What a source-fqn may name (tnt4j's SourceType)."""

SEVERITIES = (
    "NONE", "TRACE", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "FAILURE", "CRITICAL", "FATAL", "HALT",
)

FIELDS = (
    "operation", "type", "time-usec", "msg-text", "severity", "source-fqn", "tracking-id", "corr-id", "exception",
    "resource", "wait-time-used", "source-url", "pid", "tid", "comp-code", "reason-code", "location", "user",
    "start-time-usec", "end-time-usec", "elapsed-time-usec", "msg-size", "encoding", "charset", "mime-type",
    "msg-age", "msg-tag", "parent-tracking-id", "properties", "snapshots",
)
"""An event's keys of 2016, in their order on the wire."""

ACTIVITY_FIELDS = ("status", "id-count", "id-set")
"""What an activity has besides: TNT4J's names for the number of its events, and their tracking ids."""

_OURS = FIELDS + ACTIVITY_FIELDS

TNT4J = {
    "corr-id": "corrid",
    "wait-time-used": "wait-time-usec",
    "msg-age": "msg-age-usec",
    "parent-tracking-id": "parent-id",
}
"""Keys of 2016 → what TNT4J's formatter calls them now. Times are whole microseconds under either name."""


def fqn_problem(text: object) -> str | None:
    """What is wrong with a source-fqn, or None: ``TYPE=name``, more of them joined by ``#``, TYPE one of 19."""
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


class JKool(Values, OldMethodNames):
    """Where jKool is, with which token, and how events are spelled.

    ``source_fqn`` in place of ``APPL=<app>#SERVER=<host>#NETADDR=<address>``. ``handshake=False`` leaves out the
    access-request that opens every connection. ``keys``: "2016", or "tnt4j" for the newer names. ``special_numbers``:
    NaN and infinities are left out ("suppress") or quoted ("enquote"). ``timeout``: seconds to connect, seconds until
    the whole answer is there. ``max_in_flight``: the most requests at the same time (16); how many are used follows the
    answers. ``batch``: "array" or "lines" (one object a line), for gateways that take them, gzipped unless ``compress``
    is False. ``ca_bundle``: a file or folder of CA certificates in place of the usual ones. Wrong values raise
    ConfigurationError.
    """

    token: str = field(repr=False)
    url: str = "https://data.jkoolcloud.com"
    _: KW_ONLY
    source_fqn: str | None = None
    handshake: bool = True
    level: int = logging.INFO
    keys: str = "2016"
    special_numbers: str = json_body.SUPPRESS
    timeout: tuple[float, float] = (10, 10)
    max_in_flight: int = 16
    batch: str | None = None
    name: str = "jkool"
    ca_bundle: str | None = None
    compress: bool | None = None

    def __post_init__(self) -> None:
        validators.secret("JKool.token", self.token)
        validators.url("JKool.url", self.url)
        problem = None if self.source_fqn is None else fqn_problem(self.source_fqn)
        if problem is not None:
            raise ConfigurationError("JKool.source_fqn", self.source_fqn, f"TYPE=name#TYPE=name…; {problem}")
        validators.flag("JKool.handshake", self.handshake)
        validators.one_of("JKool.keys", self.keys, ("2016", "tnt4j"))
        validators.one_of("JKool.special_numbers", self.special_numbers, (json_body.SUPPRESS, json_body.ENQUOTE))
        validators.in_flight("JKool.max_in_flight", self.max_in_flight)
        validators.one_of("JKool.batch", self.batch, (None, "array", "lines"))
        validators.name("JKool.name", self.name)
        compress = self.batch is not None if self.compress is None else self.compress
        object.__setattr__(self, "compress", validators.flag("JKool.compress", compress))
        object.__setattr__(self, "ca_bundle", validators.readable_path("JKool.ca_bundle", self.ca_bundle))
        object.__setattr__(self, "level", validators.level("JKool.level", self.level))
        object.__setattr__(self, "timeout", validators.timeout("JKool.timeout", self.timeout))

    @property
    def max_events(self) -> int:
        return 1 if self.batch is None else 500

    @property
    def destination(self) -> tuple[str, str]:
        """Where events go and with which token: the same for two backends that differ in nothing else that matters."""
        return self.endpoint, self.token

    @property
    def endpoint(self) -> str:
        """The address itself; without query and fragment, as the old client has it."""
        parts = validators.split(self.url)
        return parts._replace(path=parts.path or "/", query="", fragment="").geturl()

    def headers(self, context: AppContext) -> Mapping[str, str]:
        import platform  # the application has no use for it

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
        # A class derived from it may spell events in its own way, or not hash.
        way = straight(self, context) if type(self) is JKool else json_body.no_way
        texts = [way(event) or self._text(event, context) for event in events]
        return json_body.body(texts, self.batch, bool(self.compress))

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        """The access-request, as the service has wanted it on every connection since 2016."""
        if not self.handshake:
            return None
        import html  # only where requests are sent: no worker needs its table of entities

        token = html.escape(self.token, quote=False)
        body = f"<access-request><token>{token}</token></access-request>"
        return {"Content-Type": "text/plain", "X-API-Key": self.token}, body.encode()

    def classify_response(self, answer: HttpResponse) -> DeliveryError | None:
        """An access-resp that says anything but true refuses our token, whatever the status is."""
        if not _ACCESS_RESPONSE.match(answer.body):
            return None
        success = _SUCCESS.search(answer.body)
        if success is None or success[1].strip().lower() == "true":
            return None
        import html

        said = _REASON.search(answer.body)
        reason = html.unescape(said[1].strip()) if said else f"success={success[1].strip()}"
        return UnauthorisedError(f"access refused: {reason}", status=answer.status, body=answer.body)

    def _text(self, event: Event, context: AppContext) -> str:
        return json_body.json_text(self.wire_event(event, context), self.special_numbers)

    def wire_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The event's JSON object. A key that the client set to None stays out."""
        fields = self._of_record(event, context)
        tagged = _tagged(event, context) if "allTags" in event.extra else {}
        if tagged or event.data:
            fields.update(tagged)
            # What the Trakerr client put there is not ours.
            fields.update({key: event.data[key] for key in _OURS if key in event.data})
            known = {key: fields.pop(key) for key in FIELDS if key in fields}
            fields = {**known, **fields}
        said = {key: value for key, value in fields.items() if value is not None}
        return said if self.keys == "2016" else _renamed(said)

    def _of_record(self, event: Event, context: AppContext) -> dict[str, Any]:
        """What the record itself says, in the order of `FIELDS`."""
        return {
            "operation": event.logger or event.data.get("eventType") or "root",
            "type": "EVENT",
            "time-usec": round(event.time * 1_000_000),
            "msg-text": event.message or event.data.get("eventMessage") or "",
            "severity": severity(event.level, event.level_name),
            "source-fqn": self.source_fqn or default_fqn(context.app, context.host, context.address),
            "tracking-id": None if event.id is None else event.id.uuid_text,
            "exception": exception_text(event, context),
            "pid": event.pid or None,
            "tid": event.tid or None,
            "location": f"{event.path}:{event.line}" if event.path else None,
            "properties": list(_properties(event, self.special_numbers)) or None,
        }


@functools.lru_cache(maxsize=16)
def straight(backend: JKool, context: AppContext) -> Callable[[Event], str | None]:
    """The straight way of a usual event to its JSON text; None for any other. What the event's place in the program
    says of it is spelled once."""
    special_numbers = backend.special_numbers

    @functools.lru_cache(maxsize=json_body.PLACES)
    def place(level: int, level_name: str, logger: str, path: str, line: int) -> list[str]:
        event = Event(level=level, level_name=level_name, logger=logger, path=path, line=line)
        return json_body.cut(backend._of_record(event, context), _OWN)

    def way(event: Event) -> str | None:
        if event.exceptions or event.data or event.stack is not None or event.id is None:
            return None
        extras = {**event.context, **event.extra} if event.context else event.extra
        if "allTags" in extras or "trakerr" in extras:
            return None
        begin, origin, location = place(event.level, event.level_name, event.logger, event.path, event.line)
        pid = f', "pid": {event.pid}' if event.pid else ""
        tid = f', "tid": {event.tid}' if event.tid else ""
        properties = ", ".join(_property_texts(extras, special_numbers)) if extras else ""
        if properties:
            properties = f', "properties": [{properties}]'
        return (
            f'{{{begin[2:]}, "time-usec": {round(event.time * 1_000_000)}, "msg-text": {json_body.quote(event.message)}'
            f'{origin}, "tracking-id": "{event.id.uuid_text}"{pid}{tid}{location}{properties}}}'
        )

    return way


_OWN = frozenset({"time-usec", "msg-text", "tracking-id", "exception", "pid", "tid", "properties"})


def _property_texts(extras: Mapping[str, Any], special_numbers: str) -> list[str]:
    """The JSON text of each property."""
    quote = json_body.quote
    texts: list[str] = []
    for name, value in extras.items():
        kind = type(value)
        if kind is str and (value[4:5] != "-" or not _DATE.fullmatch(value)):
            texts.append(f'{{"name": {quote(name)}, "type": "string", "value": {quote(value)}}}')
        elif kind is int:
            texts.append(f'{{"name": {quote(name)}, "type": "int", "value": {value}}}')
        elif kind is float and math.isfinite(value):
            texts.append(f'{{"name": {quote(name)}, "type": "float", "value": {value!r}}}')
        elif kind is not float or special_numbers != json_body.SUPPRESS:
            texts.append(json_body.json_text(as_property(name, value), special_numbers))
    return texts


_ACCESS_RESPONSE = Expression(r"\s*(<\?xml[^>]*>\s*)?<access-resp\b", re.IGNORECASE)
_SUCCESS = Expression(r"<success>([^<]*)</success>", re.IGNORECASE)
_REASON = Expression(r"<reason>([^<]*)</reason>", re.IGNORECASE)
_FQN_SIGNS = Expression(r"[#=]")


@functools.lru_cache(maxsize=16)
def default_fqn(app: str, host: str, address: str) -> str:
    """``APPL=<app>#SERVER=<host>#NETADDR=<address>``; the grammar has no escape for # and =, they become _ in names."""
    named = {"APPL": app, "SERVER": host, "NETADDR": address}
    return "#".join(f"{kind}={_FQN_SIGNS.sub('_', name.strip()) or 'unknown'}" for kind, name in named.items())


def severity(level: int, level_name: str) -> str:
    """The level's own name where it is one of the service's eleven, else the one that its number means."""
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


def exception_text(event: Event, context: AppContext) -> str | None:
    """The traceback as text, with source lines where the file is still the one that ran; None without exception."""
    if not event.exceptions:
        return None

    def source(file: str, line: int) -> str:
        return context.mask(_source_line(file, line, event.time))

    return traceback_text(event.exceptions, source=source).rstrip("\n")


def _source_line(file: str, line: int, time: float) -> str:
    """A line of a program's text; empty when there is none, or the file was changed since ``time``."""
    try:
        changed = os.stat(file).st_mtime
    except (OSError, ValueError):
        return ""
    if changed > time:
        return ""
    linecache.checkcache(file)
    return linecache.getline(file, line)


def _tagged(event: Event, context: AppContext) -> dict[str, Any]:
    """What ``extra={"allTags": [names]}`` picks from the record, - for _ in its name; what is missing is skipped."""
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


def _properties(event: Event, special_numbers: str) -> Iterator[dict[str, Any]]:
    """Extras as properties, those that allTags names aside: they are fields of the event."""
    extras = {**event.context, **event.extra}
    if event.stack is not None:
        extras.setdefault("stack_info", event.stack)
    named = extras.pop("allTags", None)
    if isinstance(extras.get("trakerr"), dict):
        del extras["trakerr"]  # a direction for Trakerr, no value
    for name, value in extras.items():
        if isinstance(named, list) and name in named:
            continue
        if json_body.is_special(value) and special_numbers == json_body.SUPPRESS:
            continue
        yield as_property(name, value)


def as_property(name: str, value: Any) -> dict[str, Any]:
    """``name``, ``type`` by Python type, ``value``; what has no type of its own is text."""
    if isinstance(value, bool):
        return {"name": name, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"name": name, "type": "int", "value": value}
    if isinstance(value, float):
        return {"name": name, "type": "float", "value": value}
    if isinstance(value, (dict, list)):
        return {"name": name, "type": "string", "value": json_body.readable(value)}
    text = json_body.spelled(value)
    return {"name": name, "type": "date" if _DATE.fullmatch(text) else "string", "value": text}


# An event has plain data only: dates became ISO 8601 texts when it was made.
_DATE = Expression(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d(:\d\d)?)?)?")


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """The same fields under TNT4J's names; correlators become a list."""
    renamed = {TNT4J.get(key, key): value for key, value in fields.items()}
    correlators = renamed.get("corrid")
    if correlators is not None and not isinstance(correlators, list):
        renamed["corrid"] = [correlators]
    return renamed
