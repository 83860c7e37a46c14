"""AppEvent and its parts, and their JSON objects."""

from __future__ import annotations

import dataclasses
import pprint
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, overload

from ..backends.wire.trakerr_event import FIELDS, LEVELS, level_word
from ..event.library_types import is_a
from ..event.sanitize import json_key

__all__ = [
    "AppEvent",
    "CustomData",
    "CustomDoubleData",
    "CustomStringData",
    "InnerStackTrace",
    "StackTraceLine",
    "StackTraceLines",
    "Stacktrace",
]


class _Model:
    """Base class of all parts."""

    def to_dict(self) -> dict[str, object]:
        """The attributes by their Python names; parts become dicts too."""
        return {each.name: _as_dict(getattr(self, each.name)) for each in dataclasses.fields(self)}  # type: ignore[arg-type]

    def to_str(self) -> str:
        return pprint.pformat(self.to_dict())


def _as_dict(value: object) -> object:
    if isinstance(value, _Model):
        return value.to_dict()
    if isinstance(value, list):
        return [_as_dict(each) for each in value]
    if isinstance(value, dict):
        return {key: _as_dict(each) for key, each in value.items()}
    return value


@dataclass
class StackTraceLine(_Model):
    """One line of a traceback."""

    function: str | None = None
    line: int | None = None
    file: str | None = None


class StackTraceLines(list[StackTraceLine]):
    """The lines of one exception, outermost first."""


@dataclass
class InnerStackTrace(_Model):
    """One exception: ``type`` is module.qualname, ``message`` its str."""

    type: str | None = None
    message: str | None = None
    trace_lines: StackTraceLines | None = None


class Stacktrace(list[InnerStackTrace]):
    """The exception first, then its causes, contexts and members of groups."""


@dataclass
class CustomStringData(_Model):
    """Ten fields for text."""

    custom_data1: str | None = None
    custom_data2: str | None = None
    custom_data3: str | None = None
    custom_data4: str | None = None
    custom_data5: str | None = None
    custom_data6: str | None = None
    custom_data7: str | None = None
    custom_data8: str | None = None
    custom_data9: str | None = None
    custom_data10: str | None = None


@dataclass
class CustomDoubleData(_Model):
    """Ten fields for numbers."""

    custom_data1: float | None = None
    custom_data2: float | None = None
    custom_data3: float | None = None
    custom_data4: float | None = None
    custom_data5: float | None = None
    custom_data6: float | None = None
    custom_data7: float | None = None
    custom_data8: float | None = None
    custom_data9: float | None = None
    custom_data10: float | None = None


@dataclass
class CustomData(_Model):
    """Data of the application. A str or a mapping instead of the parts is sent as it is."""

    string_data: CustomStringData | Mapping[str, str] | str | None = None
    double_data: CustomDoubleData | Mapping[str, float] | None = None


class _Level:
    """An event's log_level: one of the five, ``critical`` or ``warn``, in any case; ValueError for anything else."""

    @overload
    def __get__(self, event: None, owner: type[AppEvent]) -> None: ...
    @overload
    def __get__(self, event: AppEvent, owner: type[AppEvent]) -> str | None: ...
    def __get__(self, event: AppEvent | None, owner: type[AppEvent]) -> str | None:
        return None if event is None else event.__dict__["log_level"]

    def __set__(self, event: AppEvent, value: str | None) -> None:
        # Only an event that is being constructed may have none.
        if value is None and "log_level" not in event.__dict__:
            event.__dict__["log_level"] = None
            return
        word = level_word(value) if isinstance(value, str) else None
        if word is None:
            raise ValueError(f"Invalid value for `log_level` ({value}), must be one of {list(LEVELS)}")
        event.__dict__["log_level"] = word


@dataclass
class AppEvent(_Model):
    """One event. A field that is None gets the default of the client that sends it; without one it is not sent.

    ``log_level``: debug, info, warning, error or fatal, also "warn" and "critical", in any case; ValueError for others,
    whenever it is set. ``event_time``: milliseconds since the epoch, by default the time of sending.
    ``context_operation_time_millis``: how long the operation took. CPU and memory (percent) are measured by the shipper
    process.
    """

    api_key: str | None = field(default=None, repr=False)
    log_level: _Level = _Level()
    classification: str | None = None
    event_type: str | None = None
    event_message: str | None = None
    event_time: int | None = None
    event_stacktrace: Stacktrace | None = None
    event_user: str | None = None
    event_session: str | None = None
    context_app_version: str | None = None
    deployment_stage: str | None = None
    context_env_name: str | None = None
    context_env_language: str | None = None
    context_env_version: str | None = None
    context_env_hostname: str | None = None
    context_app_browser: str | None = None
    context_app_browser_version: str | None = None
    context_app_os: str | None = None
    context_app_os_version: str | None = None
    context_data_center: str | None = None
    context_data_center_region: str | None = None
    context_tags: list[str] | None = None
    context_url: str | None = None
    context_operation_time_millis: float | str | None = None
    context_cpu_percentage: float | None = None
    context_memory_percentage: float | None = None
    context_cross_app_correlation_id: str | None = None
    context_device: str | None = None
    context_app_sku: str | None = None
    custom_properties: CustomData | Mapping[str, object] | None = None
    custom_segments: CustomData | Mapping[str, object] | None = None


def wire(event: AppEvent) -> dict[str, Any]:
    """The event's JSON object without what is None; a plain mapping keeps its keys."""
    fields = ((key, getattr(event, attribute)) for key, attribute in FIELDS.items())
    return {key: _to_json(value) for key, value in fields if value is not None}


_MAX_DEPTH = 10  # deeper values, and those that contain themselves, are cut when the event is sanitized


def _to_json(value: object, depth: int = 0) -> Any:
    if depth > _MAX_DEPTH:
        return value
    if is_a(value, _Model):
        parts = ((_camel(each.name), getattr(value, each.name)) for each in dataclasses.fields(value))  # type: ignore[arg-type]
        return {key: _to_json(part, depth + 1) for key, part in parts if part is not None}
    if is_a(value, list) or is_a(value, tuple):  # named tuples too are lists to JSON
        return [_to_json(each, depth + 1) for each in value]
    if is_a(value, dict):
        # Copied at once: another thread may be changing it.
        return {json_key(key): _to_json(each, depth + 1) for key, each in list(value.items())}
    return value


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
