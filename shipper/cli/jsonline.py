"""A line of JSON → event."""

from __future__ import annotations

import datetime
import json
import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ConfigurationError
from ..event import Event
from .shipping import level

T = TypeVar("T")

MESSAGES = ("message", "msg", "event", "text")
LEVELS = ("level", "levelname", "severity", "lvl")
TIMES = ("time", "timestamp", "@timestamp", "ts", "asctime", "created")
LOGGERS = ("logger", "logger_name", "name")
"""Fields that say what the event's own would; of each group the first that can be understood, the rest stay fields."""


def as_event(line: str, usual: Event) -> Event | None:
    """The line as ``usual`` with what the line says of message, level, time and logger; its other fields are extras.

    None for a line that is no JSON object. A time is ISO 8601 (local, without an offset), or seconds, milliseconds,
    microseconds or nanoseconds since the epoch; a level is a name, or one of logging's numbers. The message is the line
    itself when no field is one.
    """
    if "{" not in line[:100]:
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    usual.message = _taken(fields, MESSAGES, _text) or line
    usual.level = _taken(fields, LEVELS, _level) or usual.level
    usual.level_name = logging.getLevelName(usual.level)
    usual.time = _taken(fields, TIMES, _time) or usual.time
    usual.logger = _taken(fields, LOGGERS, _text) or usual.logger
    usual.extra = fields
    return usual


def _taken(fields: dict[str, Any], names: tuple[str, ...], understood: Callable[[object], T | None]) -> T | None:
    """What the first of these fields says that is understood; it is no longer among them."""
    for name in names:
        found = understood(fields.get(name))
        if found:
            del fields[name]
            return found
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _level(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    try:
        return level(str(value)) or None
    except ConfigurationError:
        return None


def _time(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _of_text(value)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    for unit in (1, 1e3, 1e6, 1e9):
        if 1e8 <= value / unit < 1e10:  # the years 1973 to 2286
            return value / unit
    return None


def _of_text(value: str) -> float | None:
    text = value.strip().replace(",", ".")
    text = f"{text[:-1]}+00:00" if text.endswith(("Z", "z")) else text
    try:
        return datetime.datetime.fromisoformat(_with_microseconds(text)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _with_microseconds(text: str) -> str:
    """The fraction of a second in six digits: Python 3.10 understands three and six alone."""
    head, dot, tail = text.partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[:digits][:6]:0<6}{tail[digits:]}" if dot and digits else text
