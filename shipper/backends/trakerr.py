"""Trakerr: one AppEvent as JSON per ``POST {url}/events``, the key in its body."""

from __future__ import annotations

import bisect
import functools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .._support.values import KW_ONLY, Values, field
from .._version import __version__
from ..errors import DeliveryError
from ..event.exceptions import Frame, Raised
from ..event.model import Event
from . import json_body, validators
from .deprecated import OldMethodNames
from .protocol import AppContext, HttpResponse

SLOTS = 10
"""Custom data has ten places, customData1 to customData10."""

_SLOT_NAMES = tuple(f"customData{number}" for number in range(1, SLOTS + 1))

FIELDS = {
    "apiKey": "api_key",
    "logLevel": "log_level",
    "classification": "classification",
    "eventType": "event_type",
    "eventMessage": "event_message",
    "eventTime": "event_time",
    "eventStacktrace": "event_stacktrace",
    "eventUser": "event_user",
    "eventSession": "event_session",
    "contextAppVersion": "context_app_version",
    "deploymentStage": "deployment_stage",
    "contextEnvName": "context_env_name",
    "contextEnvLanguage": "context_env_language",
    "contextEnvVersion": "context_env_version",
    "contextEnvHostname": "context_env_hostname",
    "contextAppBrowser": "context_app_browser",
    "contextAppBrowserVersion": "context_app_browser_version",
    "contextAppOS": "context_app_os",
    "contextAppOSVersion": "context_app_os_version",
    "contextDataCenter": "context_data_center",
    "contextDataCenterRegion": "context_data_center_region",
    "contextTags": "context_tags",
    "contextURL": "context_url",
    "contextOperationTimeMillis": "context_operation_time_millis",
    "contextCpuPercentage": "context_cpu_percentage",
    "contextMemoryPercentage": "context_memory_percentage",
    "contextCrossAppCorrelationId": "context_cross_app_correlation_id",
    "contextDevice": "context_device",
    "contextAppSku": "context_app_sku",
    "customProperties": "custom_properties",
    "customSegments": "custom_segments",
}
"""An AppEvent's key on the wire → its attribute in Python; the order is that on the wire."""

_NOTHING_SAID: dict[str, Any] = dict.fromkeys(FIELDS)

LEVELS = ("debug", "info", "warning", "error", "fatal")


class Trakerr(Values, OldMethodNames):
    """Where Trakerr is, with which key, and what every event says of its application.

    ``timeout``: seconds to connect, seconds until the whole answer is there. ``max_in_flight``: the most requests at
    the same time (16); how many are used follows the answers. ``batch="array"`` sends a JSON array per request, for
    gateways that take one, gzipped unless ``compress`` is False. ``ca_bundle``: a file or folder of CA certificates in
    place of the usual ones. Wrong values raise ConfigurationError.
    """

    api_key: str = field(repr=False)
    app_version: str = "1.0"
    deployment_stage: str = "development"
    _: KW_ONLY
    app_sku: str = ""
    tags: Sequence[str] = ()
    data_center: str | None = None
    data_center_region: str | None = None
    app_browser: str | None = None
    app_browser_version: str | None = None
    url: str = "https://www.trakerr.io/api/v1"
    level: int = logging.WARNING
    timeout: tuple[float, float] = (3.05, 10)
    max_in_flight: int = 16
    batch: str | None = None
    name: str = "trakerr"
    ca_bundle: str | None = None
    compress: bool | None = None

    def __post_init__(self) -> None:
        validators.secret("Trakerr.api_key", self.api_key)
        validators.text("Trakerr.app_version", self.app_version)
        validators.text("Trakerr.deployment_stage", self.deployment_stage)
        validators.text("Trakerr.app_sku", self.app_sku)
        for setting in ("data_center", "data_center_region", "app_browser", "app_browser_version"):
            validators.text_or_none(f"Trakerr.{setting}", getattr(self, setting))
        validators.url("Trakerr.url", self.url)
        validators.in_flight("Trakerr.max_in_flight", self.max_in_flight)
        validators.one_of("Trakerr.batch", self.batch, (None, "array"))
        validators.name("Trakerr.name", self.name)
        compress = self.batch is not None if self.compress is None else self.compress
        object.__setattr__(self, "compress", validators.flag("Trakerr.compress", compress))
        object.__setattr__(self, "tags", validators.texts("Trakerr.tags", self.tags))
        object.__setattr__(self, "ca_bundle", validators.readable_path("Trakerr.ca_bundle", self.ca_bundle))
        object.__setattr__(self, "level", validators.level("Trakerr.level", self.level))
        object.__setattr__(self, "timeout", validators.timeout("Trakerr.timeout", self.timeout))

    @property
    def max_events(self) -> int:
        # 100 ids still fit into one header.
        return 1 if self.batch is None else 100

    @property
    def destination(self) -> tuple[str, str]:
        """Where events go and under which key: the same for two backends that differ in nothing else that matters."""
        return self.endpoint, self.api_key

    @property
    def endpoint(self) -> str:
        parts = validators.split(self.url)
        return parts._replace(path=parts.path.rstrip("/") + "/events", fragment="").geturl()

    def headers(self, context: AppContext) -> Mapping[str, str]:
        own = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"shipper/{__version__}",
        }
        return {**own, "Content-Encoding": "gzip"} if self.compress else own

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        ids = ",".join(str(event.id) for event in events if event.id is not None)
        return {"Idempotency-Key": ids} if ids else {}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        # A class derived from it may spell events in its own way, or not hash.
        way = straight(self, context) if type(self) is Trakerr else json_body.no_way
        texts = [way(event) or self._text(event, context) for event in events]
        return json_body.body(texts, self.batch, bool(self.compress))

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        return None

    def classify_response(self, answer: HttpResponse) -> DeliveryError | None:
        return None

    def _text(self, event: Event, context: AppContext) -> str:
        return json_body.json_text(self.app_event(event, context))

    def app_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The JSON object. A key that the client set to None stays out; one that it did not set has its default."""
        fields = self._all_fields(event, context, context.load(event.time))
        return {key: value for key, value in fields.items() if value is not None}

    def _all_fields(self, event: Event, context: AppContext, load: tuple[float, float] | None) -> dict[str, Any]:
        fields = self._common(context)
        fields["eventTime"] = milliseconds(event.time)
        fields["contextCpuPercentage"], fields["contextMemoryPercentage"] = load or (None, None)
        fields.update(self._said(event, context))  # keys that we don't know, which its client may have set, come last
        if fields["apiKey"] is None:
            fields["apiKey"] = self.api_key
        return fields

    def _said(self, event: Event, context: AppContext) -> dict[str, Any]:
        """What the event itself says."""
        if event.kind != "trakerr":
            return self._of_record(event, context)
        if event.exceptions and "eventStacktrace" not in event.data:
            return {"eventStacktrace": stacktrace(event.exceptions, context.cwd), **event.data}
        return event.data

    def _common(self, context: AppContext) -> dict[str, Any]:
        """Every key, in the order of the wire, with what it is when an event does not say otherwise."""
        return {
            **_NOTHING_SAID,
            **environment(),
            "apiKey": self.api_key,
            "contextAppVersion": self.app_version,
            "deploymentStage": self.deployment_stage,
            "contextEnvHostname": context.host,
            "contextAppBrowser": self.app_browser,
            "contextAppBrowserVersion": self.app_browser_version,
            "contextDataCenter": self.data_center,
            "contextDataCenterRegion": self.data_center_region,
            "contextTags": list(self.tags),
            "contextAppSku": self.app_sku or None,
        }

    def _of_record(self, event: Event, context: AppContext) -> dict[str, Any]:
        """What a record says; in its ``data`` are its handler's defaults, and what surrounds it."""
        fields: dict[str, Any] = {}
        if event.data and event.kind == "log":
            fields = {key: event.data[key] for key in FIELDS if key in event.data}
        tags = fields.get("contextTags", self.tags) or ()
        fields |= {
            "logLevel": log_level(event.level),
            "classification": "log" if event.level < logging.WARNING else "issue",
            "eventType": event.exceptions[0].type if event.exceptions else event.logger,
            "eventMessage": event.message,
            "contextTags": [*tags, event.logger] if event.logger else list(tags),
        }
        if event.exceptions:
            fields["eventStacktrace"] = stacktrace(event.exceptions, context.cwd)
        if event.kind == "jkool":
            return {**fields, **_of_jkool(event)}
        attributes, extras = _attributes_and_extras(event)
        fields.update(attributes)
        if extras:
            fields["customProperties"] = with_extras(fields.get("customProperties"), extras)
        return fields


@functools.lru_cache(maxsize=16)
def straight(backend: Trakerr, context: AppContext) -> Callable[[Event], str | None]:
    """The straight way of a usual event to its JSON text; None for any other. What its logger and level, and the
    backend, say of it is spelled once."""

    @functools.lru_cache(maxsize=json_body.PLACES)
    def place(level: int, logger: str) -> list[str]:
        return json_body.cut(backend._all_fields(Event(level=level, logger=logger), context, None), _OWN)

    def way(event: Event) -> str | None:
        if event.kind != "log" or event.exceptions or event.data or event.stack is not None:
            return None
        extras = {**event.context, **event.extra} if event.context else event.extra
        if "trakerr" in extras or "allTags" in extras:
            return None
        begin, origin, sku, segments = place(event.level, event.logger)
        sample = context.load(event.time)
        load = _load_text(*sample) if sample else ""
        custom = _custom_text(extras) if extras else ""
        return (
            f'{{{begin[2:]}, "eventMessage": {json_body.quote(event.message)}, "eventTime": {milliseconds(event.time)}'
            f"{origin}{load}{sku}{custom}{segments}}}"
        )

    return way


_OWN = frozenset({
    "eventMessage", "eventTime", "contextCpuPercentage", "contextMemoryPercentage", "customProperties",
})  # fmt: skip


@functools.lru_cache(maxsize=100, typed=True)
def _load_text(cpu: float, memory: float) -> str:
    (text,) = json_body.cut({"contextCpuPercentage": cpu, "contextMemoryPercentage": memory}, ())
    return text


def _custom_text(extras: Mapping[str, Any]) -> str:
    """The JSON text of custom data that holds extras alone."""
    if len(extras) > SLOTS:
        return f', "customProperties": {json_body.json_text(with_extras(None, extras))}'
    texts = [
        f'"{place}": {json_body.quote(f"{name}={spelled(extras[name])}")}'
        for place, name in zip(_SLOT_NAMES, sorted(extras), strict=False)
    ]
    return f', "customProperties": {{"stringData": {{{", ".join(texts)}}}}}'


def log_level(level: int) -> str:
    """The service's word for a level's number."""
    return LEVELS[bisect.bisect_right(_BOUNDS, level)]


_BOUNDS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def milliseconds(seconds: float) -> int:
    # By way of whole microseconds: 0.987 s are 986.99999 ms to a float.
    return round(seconds * 1_000_000) // 1000


def stacktrace(exceptions: Sequence[Raised], cwd: str) -> list[dict[str, Any]]:
    """``eventStacktrace``: the exception first, then its causes, contexts and members; outermost frames first."""
    return [
        {"type": one.type, "message": one.message, "traceLines": [_trace_line(frame, cwd) for frame in one.frames]}
        for one in exceptions
    ]


def _trace_line(frame: Frame, cwd: str) -> dict[str, Any]:
    return {"function": frame.function, "line": frame.line, "file": relative(frame.file, cwd)}


def relative(path: str, cwd: str) -> str:
    """``path`` as seen from ``cwd`` when it lies under it, else as it is."""
    if not os.path.isabs(path):
        return path
    folder = cwd.rstrip(os.sep) + os.sep
    plain = os.path.normpath(path)
    return plain[len(folder) :] if plain.startswith(folder) else path


def with_extras(custom: Any, extras: Mapping[str, Any]) -> Any:
    """Custom data with the extras as ``name=value`` in its free places, sorted by name.

    What is there already stays. When there are more extras than places, the last one's text ends in how many are left
    out; with no place free at all, the tenth place's text does.
    """
    if custom is None and len(extras) <= SLOTS:
        placed = zip(_SLOT_NAMES, sorted(extras), strict=False)
        return {"stringData": {place: f"{name}={spelled(extras[name])}" for place, name in placed}}
    shaped = dict(custom) if isinstance(custom, dict) else {} if custom is None else {"stringData": spelled(custom)}
    given = shaped.get("stringData")
    strings = dict(given) if isinstance(given, dict) else {} if given is None else {"customData1": given}
    free = [place for place in _SLOT_NAMES if place not in strings]
    texts = [f"{name}={spelled(extras[name])}" for name in sorted(extras)]
    strings.update(zip(free, texts, strict=False))
    left_out = len(texts) - len(free)
    if left_out > 0:
        last = free[-1] if free else f"customData{SLOTS}"
        strings[last] = f"{strings[last]} (+{left_out} more)"
    return {**shaped, "stringData": strings}


def spelled(value: Any) -> str:
    """A value as text in custom data: text as it is, containers as JSON."""
    if type(value) in _SIMPLE:
        return str(value)
    if isinstance(value, (dict, list)):
        return json_body.readable(value)
    return json_body.spelled(value)


_SIMPLE = frozenset({str, int, float})


def _attributes_and_extras(event: Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """AppEvent fields that ``extra={"trakerr": {...}}`` sets, and everything else that came with the record."""
    extras = {**event.context, **event.extra}
    extras.pop("allTags", None)  # a direction for jKool, no value
    if event.stack is not None:
        extras.setdefault("stack_info", event.stack)
    given = extras.get("trakerr")
    if not isinstance(given, dict):
        return {}, extras
    del extras["trakerr"]
    attributes: dict[str, Any] = {}
    for name, value in given.items():
        key = _WIRE_KEYS.get(name)
        if key is None:
            extras.setdefault(name, value)
        elif value is not None:
            _set(attributes, key, value)
    return attributes, extras


_WIRE_KEYS = {attribute: key for key, attribute in FIELDS.items()} | {"context_deployment_stage": "deploymentStage"}


def _set(attributes: dict[str, Any], key: str, value: Any) -> None:
    if key == "logLevel":
        # A word that the service does not know would make it refuse the whole event; the record's own level stands.
        level = level_word(value)
        attributes.update({} if level is None else {key: level})
    elif key in ("customProperties", "customSegments"):
        attributes[key] = custom_data(value)
    elif key == "eventStacktrace" and isinstance(value, list):
        attributes[key] = [_trace(each) for each in value]
    else:
        attributes[key] = value


def _trace(value: Any) -> Any:
    """One exception of a stack trace, Python's name for its lines turned into the wire's."""
    if not isinstance(value, dict):
        return value
    return {("traceLines" if key == "trace_lines" else key): member for key, member in value.items()}


def level_word(value: object) -> str | None:
    """``value`` as one of the five levels, in any case, with Python's other two names for them; None for another."""
    word = str(value).lower()
    word = {"critical": "fatal", "warn": "warning"}.get(word, word)
    return word if word in LEVELS else None


def custom_data(value: Any) -> Any:
    """Custom data, Python's names turned into the wire's: ``string_data.custom_data1`` → ``stringData.customData1``.

    Other shapes pass as they are.
    """
    if not isinstance(value, dict):
        return value
    return {
        _CUSTOM_KEYS.get(key, key): _custom_places(member)
        for key, member in value.items()
        if member is not None or key not in _CUSTOM_KEYS
    }


_CUSTOM_KEYS = {"string_data": "stringData", "double_data": "doubleData"}
_PLACES = {f"custom_data{number}": f"customData{number}" for number in range(1, SLOTS + 1)}


def _custom_places(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {_PLACES.get(key, key): member for key, member in value.items() if member is not None}


def _of_jkool(event: Event) -> dict[str, Any]:
    """What a jKool event says that an AppEvent has a place for."""
    said = event.data
    texts = {"eventUser": "user", "contextCrossAppCorrelationId": "corr-id", "contextURL": "source-url"}
    found: dict[str, Any] = {key: str(said[name]) for key, name in texts.items() if said.get(name) is not None}
    if not event.message and isinstance(said.get("msg-text"), str):
        found["eventMessage"] = said["msg-text"]
    if isinstance(said.get("time-usec"), int):
        found["eventTime"] = said["time-usec"] // 1000
    extras = dict(_properties(said.get("properties")))
    return {**found, "customProperties": with_extras(None, extras)} if extras else found


def _properties(properties: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(properties, list):
        return
    for each in properties:
        if isinstance(each, dict) and "name" in each:
            yield str(each["name"]), each.get("value")


@functools.lru_cache(maxsize=1)
def environment() -> Mapping[str, str]:
    """Interpreter and operating system; the shipper process has those of its application."""
    import platform  # the application has no use for it

    windows = platform.system() == "Windows"
    return {
        "contextEnvName": platform.python_implementation(),
        "contextEnvLanguage": "Python",
        "contextEnvVersion": platform.python_version(),
        "contextAppOS": f"{platform.system()} {platform.release()}" if windows else platform.system(),
        "contextAppOSVersion": platform.version() if windows else platform.release(),
    }
