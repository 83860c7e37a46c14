"""A line of a program's output → an event: plain text, or a JSON object whose usual keys are recognised."""

from __future__ import annotations

import datetime
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...application.capture.record import from_record
from ...event.exceptions import ExceptionInfo
from ...event.model import Event
from ...event.sanitize import sanitize

LONGEST = 100 * 1024  # bytes of a line that are kept
ENDLESS = 64 * 1024 * 1024  # ... and after so many more, the line is shipped and what follows is another line

MESSAGES = ("message", "msg", "@message", "event", "short_message", "text")
LEVELS = ("level", "levelname", "severity", "log_level", "loglevel", "log.level", "lvl", "@level", "@l", "levelno")
TIMES = ("time", "timestamp", "@timestamp", "ts", "datetime", "asctime", "@t")
LOGGERS = ("logger", "logger_name", "loggername", "log.logger", "name", "channel")
TRACEBACKS = ("exc_info", "exception", "exc_text", "traceback", "stack_trace", "error.stack_trace")
"""The keys that programs use for each, in lower case; the first one with a valid value is taken."""

_NAMES = {
    "trace": 5, "verbose": 5, "debug": 10, "info": 20, "information": 20, "informational": 20, "notice": 25,
    "warn": 30, "warning": 30, "err": 40, "error": 40, "fatal": 50, "critical": 50, "crit": 50, "panic": 50,
    "dpanic": 50, "alert": 50, "emerg": 50, "emergency": 50, "d": 10, "i": 20, "w": 30, "e": 40, "f": 50,
}  # fmt: skip
_SYSLOG = (50, 50, 50, 40, 30, 25, 20, 10)
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?\s?(Z|z|[+-]\d\d:?\d\d)?")
_TRACEBACK = "Traceback (most recent call last):"


class Line(NamedTuple):
    """One line without its newline. ``cut`` bytes of it were left out; ``end`` is where the next one begins."""

    raw: bytes
    cut: int
    end: int


class Lines:
    """Splits a stream of bytes into lines, from offset ``at`` on, in bounded memory however long a line is."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._kept = b""
        self._cut = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that this chunk completes."""
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._take(piece)
            self._at += 1
            yield self._line()
        self._take(rest)
        if self._cut >= ENDLESS:
            yield self._line()

    def last(self) -> Line | None:
        """The rest of the stream, without a newline at its end."""
        return self._line() if self._kept else None

    def _take(self, piece: bytes) -> None:
        self._at += len(piece)
        room = LONGEST - len(self._kept)
        self._kept += piece[:room]
        self._cut += max(0, len(piece) - room)

    def _line(self) -> Line:
        line = Line(self._kept, self._cut, self._at)
        self._kept, self._cut = b"", 0
        return line


def text_of(line: Line) -> str:
    """The line as text: invalid UTF-8 as escapes, and a marker where it was cut."""
    raw, cut = line.raw, line.cut
    text = raw.decode("utf-8", "backslashreplace")
    if len(text) > LONGEST:  # an escape takes four characters
        raw, cut = raw[: LONGEST // 4], cut + len(raw) - LONGEST // 4
        text = raw.decode("utf-8", "backslashreplace")
    if not cut:
        return text.removesuffix("\r")
    return f"{text}[... {cut} bytes left out ...]"


class Reading(NamedTuple):
    """How lines become events: the options of `shipper pipe`."""

    level: int
    logger: str
    is_json: bool

    def event(self, line: Line, arrived: float) -> Event | None:
        """The event of a line that was taken in at ``arrived`` (seconds since the epoch); None for a blank line."""
        if not line.raw.strip():
            return None
        event = Event(time=arrived, logger=self.logger, pid=os.getpid())
        fields = _fields(line) if self.is_json else None
        if fields is None:
            event.message = text_of(line)
            _set_level(event, self.level)
        else:
            self._fill(event, fields, text_of(line))
        return event

    def _fill(self, event: Event, fields: dict[str, Any], text: str) -> None:
        """Move the recognised keys from the fields into the event; the rest are extras."""
        spelled = {key.lower(): key for key in reversed(fields)}
        level = _taken(fields, spelled, LEVELS, lambda value: _level(value, fields))
        _set_level(event, self.level if level is None else level)
        message = _taken(fields, spelled, MESSAGES, lambda value: value if isinstance(value, str) else None)
        event.message = text if message is None else message
        event.time = _taken(fields, spelled, TIMES, _time) or event.time
        event.logger = _taken(fields, spelled, LOGGERS, lambda value: value if isinstance(value, str) else None) or (
            event.logger
        )
        event.exceptions = _taken(fields, spelled, TRACEBACKS, _exceptions) or []
        event.extra = sanitize(fields)


def _fields(line: Line) -> dict[str, Any] | None:
    if line.cut or not line.raw.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(line.raw.decode("utf-8", "backslashreplace"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _taken(fields: dict[str, Any], spelled: dict[str, str], names: tuple[str, ...], read: Any) -> Any:
    """The value of the first name that has a valid one; its key is removed from the fields."""
    for name in names:
        key = spelled.get(name)
        if key is None or key not in fields:
            continue
        value = read(fields[key])
        if value is not None:
            del fields[key]
            return value
    return None


def _set_level(event: Event, level: int) -> None:
    event.level = level
    event.level_name = logging.getLevelName(level)


def _level(value: object, fields: dict[str, Any]) -> int | None:
    """The level in a name of common logging libraries, or in a number of Python, syslog (0 to 7), pino or bunyan."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 4 else _NAMES.get(value.lower())
    if not isinstance(value, (int, float)) or not 0 <= value <= 1000:
        return None
    if value < len(_SYSLOG) and value == int(value):
        return _SYSLOG[int(value)]
    if "msg" in fields and "pid" in fields and "hostname" in fields:
        return max(5, int(value) - 10)
    return int(value)


def _time(value: object) -> float | None:
    """Seconds since the epoch, from seconds, milli-, micro- or nanoseconds, or from ISO 8601; local without a zone."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _from_iso(value.strip())
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    for unit in (1.0, 1e3, 1e6, 1e9):
        if 1e8 <= value / unit < 1e10:  # the years 1973 to 2286
            return value / unit
    return None


def _from_iso(text: str) -> float | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in ("Z", "z") else zone or ""
    if len(zone) == 5:
        zone = f"{zone[:3]}:{zone[3:]}"
    try:
        whole = datetime.datetime.fromisoformat(f"{day}T{clock}{zone}").timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return whole + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)


def _exceptions(value: object) -> list[ExceptionInfo] | None:
    """The exceptions of a traceback that Python printed; None for anything else."""
    if not isinstance(value, str) or not value.lstrip().startswith(_TRACEBACK):
        return None
    record = logging.LogRecord("", 0, "", 0, "", None, None)
    record.exc_text = value.strip()
    return from_record(record).exceptions
