"""What Trakerr's AppEvent is made of: its keys, levels, stack trace and custom data."""

from __future__ import annotations

import bisect
import functools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...event.exceptions import ExceptionInfo, Frame
from ...event.model import Event
from . import json_body

SLOTS = 10
"""Custom data has ten slots, customData1 to customData10."""

SLOT_NAMES = tuple(f"customData{number}" for number in range(1, SLOTS + 1))

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

LEVELS = ("debug", "info", "warning", "error", "fatal")


def log_level(level: int) -> str:
    """The service's name for a numeric level."""
    return LEVELS[bisect.bisect_right(_BOUNDS, level)]


_BOUNDS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def milliseconds(seconds: float) -> int:
    # Rounded to microseconds first: 0.987 s are 986.99999 ms as a float.
    return round(seconds * 1_000_000) // 1000


def stacktrace(exceptions: Sequence[ExceptionInfo], cwd: str) -> list[dict[str, Any]]:
    """``eventStacktrace``: the exception first, then its causes, contexts and members; outermost frames first."""
    return [
        {
            "type": one.type,
            "message": one.message_and_notes,
            "traceLines": [_trace_line(frame, cwd) for frame in one.frames],
        }
        for one in exceptions
    ]


def _trace_line(frame: Frame, cwd: str) -> dict[str, Any]:
    return {"function": frame.function, "line": frame.line, "file": relative(frame.file, cwd)}


def relative(path: str, cwd: str) -> str:
    """``path`` relative to ``cwd`` if it is inside that folder, else unchanged."""
    if not os.path.isabs(path):
        return path
    folder = cwd.rstrip(os.sep) + os.sep
    plain = os.path.normpath(path)
    return plain[len(folder) :] if plain.startswith(folder) else path


def with_extras(custom: Any, extras: Mapping[str, Any]) -> Any:
    """Custom data with the extras as ``name=value`` in its free slots, sorted by name.

    Used slots stay. With more extras than free slots, the last free one (or customData10) ends with the number missing.
    """
    if custom is None and len(extras) <= SLOTS:
        slots = zip(SLOT_NAMES, sorted(extras), strict=False)
        return {"stringData": {slot: f"{name}={spelled(extras[name])}" for slot, name in slots}}
    shaped = dict(custom) if isinstance(custom, dict) else {} if custom is None else {"stringData": spelled(custom)}
    given = shaped.get("stringData")
    strings = dict(given) if isinstance(given, dict) else {} if given is None else {"customData1": given}
    free = [slot for slot in SLOT_NAMES if slot not in strings]
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


def attributes_and_extras(event: Event) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys that ``extra={"trakerr": {...}}`` sets, and all other extras of the record."""
    extras = {**event.context, **event.extra}
    extras.pop("allTags", None)  # an instruction for jKool, not a value
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
        # The service refuses events with an unknown level, so the record's own level is kept.
        level = level_word(value)
        attributes.update({} if level is None else {key: level})
    elif key in ("customProperties", "customSegments"):
        attributes[key] = custom_data(value)
    elif key == "eventStacktrace" and isinstance(value, list):
        attributes[key] = [_trace(each) for each in value]
    else:
        attributes[key] = value


def _trace(value: Any) -> Any:
    """One exception of a stack trace, with the wire's name for its lines."""
    if not isinstance(value, dict):
        return value
    return {("traceLines" if key == "trace_lines" else key): member for key, member in value.items()}


def level_word(value: object) -> str | None:
    """``value`` as one of the five levels; any case, and "critical" and "warn" too. None for other values."""
    word = str(value).lower()
    word = {"critical": "fatal", "warn": "warning"}.get(word, word)
    return word if word in LEVELS else None


def custom_data(value: Any) -> Any:
    """Custom data with the wire's names: ``string_data.custom_data1`` → ``stringData.customData1``.

    Values of other shapes are returned unchanged.
    """
    if not isinstance(value, dict):
        return value
    return {
        _CUSTOM_KEYS.get(key, key): _custom_slots(member)
        for key, member in value.items()
        if member is not None or key not in _CUSTOM_KEYS
    }


_CUSTOM_KEYS = {"string_data": "stringData", "double_data": "doubleData"}
_SLOTS_ON_WIRE = {f"custom_data{number}": f"customData{number}" for number in range(1, SLOTS + 1)}


def _custom_slots(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {_SLOTS_ON_WIRE.get(key, key): member for key, member in value.items() if member is not None}


def fields_of_jkool(event: Event) -> dict[str, Any]:
    """The values of a jKool event that an AppEvent has a key for."""
    data = event.data
    texts = {"eventUser": "user", "contextCrossAppCorrelationId": "corr-id", "contextURL": "source-url"}
    found: dict[str, Any] = {key: str(data[name]) for key, name in texts.items() if data.get(name) is not None}
    if not event.message and isinstance(data.get("msg-text"), str):
        found["eventMessage"] = data["msg-text"]
    if isinstance(data.get("time-usec"), int):
        found["eventTime"] = data["time-usec"] // 1000
    extras = dict(_properties(data.get("properties")))
    return {**found, "customProperties": with_extras(None, extras)} if extras else found


def _properties(properties: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(properties, list):
        return
    for each in properties:
        if isinstance(each, dict) and "name" in each:
            yield str(each["name"]), each.get("value")


@functools.lru_cache(maxsize=1)
def environment() -> Mapping[str, str]:
    """Interpreter and operating system of the shipper process, usually those of its application."""
    import platform  # used in the shipper process only

    windows = platform.system() == "Windows"
    return {
        "contextEnvName": platform.python_implementation(),
        "contextEnvLanguage": "Python",
        "contextEnvVersion": platform.python_version(),
        "contextAppOS": f"{platform.system()} {platform.release()}" if windows else platform.system(),
        "contextAppOSVersion": platform.version() if windows else platform.release(),
    }
