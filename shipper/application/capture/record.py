"""LogRecord → event: the message is formatted, and all that was added to the record is made plain data."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from ...event.exceptions import capture_exceptions
from ...event.library_types import is_a
from ...event.model import Event
from ...event.sanitize import sanitize_mapping
from ...event.scalars import (
    END_OF_TIME,
    FIRST_SECOND,
    MAX_NAME,
    as_integer,
    as_name,
    as_seconds,
    as_text,
    safe_repr,
    safe_str,
    type_name,
)
from ...event.tracebacks import from_text
from .surroundings import surroundings

_STANDARD = frozenset({
    "name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text",
    "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName", "processName",
    "process", "message", "asctime", "taskName",
})  # fmt: skip


LEVEL = "_shipper_level"
"""Attribute of a record: the level to ship it with, in place of its own."""


def from_record(record: logging.LogRecord, *, context: Callable[[], Mapping[str, object]] | None = None) -> Event:
    """The record as an event of kind "log"; never raises, and reads no file.

    Attributes that were added to the record become ``extra``, except those whose names begin with ``_shipper``. What
    can't be formatted, and a ``context`` that raises, is replaced by a marker. The event's context also has the bound
    fields and the current span.
    """
    try:
        return _event(record, context)
    except Exception as exc:  # near the recursion limit, or not a record at all
        return Event(time=time.time(), level=logging.ERROR, message=f"<unreadable record: {type_name(exc)}>")


def _event(record: logging.LogRecord, context: Callable[[], Mapping[str, object]] | None) -> Event:
    values = record.__dict__
    find = values.get
    extra = {key: value for key, value in values.items() if key not in _STANDARD}
    exc_info = find("exc_info")
    message = find("msg")
    if is_a(message, dict) and "event" in message:
        message, exc_info = _take_event_dict(message, extra, exc_info)
    else:
        message = _message(record)
    exceptions = [] if exc_info is None else capture_exceptions(exc_info)
    if not exceptions and isinstance(text := find("exc_text"), str) and text:
        exceptions = from_text(as_text(text))
    stack = find("stack_info")
    task = values["taskName"] if "taskName" in values else task_name()
    time, level, level_name, logger, path, line, function, pid, process, tid, thread = _origin(values)
    if LEVEL in values:
        level = as_integer(values[LEVEL])
        level_name = logging.getLevelName(level)
    return Event(
        "log",
        None,
        time,
        level,
        level_name,
        logger,
        message,
        path,
        line,
        function,
        pid,
        process,
        tid,
        thread,
        None if task is None else as_name(task),
        exceptions,
        None if stack is None else as_text(stack),
        _extra(extra) if extra else {},
        _context(context),
        {},
    )


_ORIGIN = (
    "created", "levelno", "levelname", "name", "pathname", "lineno", "funcName", "process", "processName", "thread",
    "threadName",
)  # fmt: skip
_USUAL = (float, int, str, str, str, int, str, int, str, int, str)
_origin_of = itemgetter(*_ORIGIN)


def _origin(values: dict[str, Any]) -> Iterable[Any]:
    """Time, level and place of the record, in the order of `_ORIGIN`; unchanged if they have the types of logging."""
    try:
        found: tuple[Any, ...] = _origin_of(values)
    except KeyError:
        found = ()
    if tuple(map(type, found)) == _USUAL and _is_usual(*found):
        return found
    sanitizers = {float: as_seconds, int: as_integer, str: as_name}
    return [sanitizers[kind](values.get(name)) for name, kind in zip(_ORIGIN, _USUAL, strict=True)]


def _is_usual(
    time: float,
    level: int,
    level_name: str,
    logger: str,
    path: str,
    line: int,
    function: str,
    pid: int,
    process: str,
    tid: int,
    thread: str,
) -> bool:
    names = f"{level_name}{logger}{path}{function}{process}{thread}"
    if len(names) > MAX_NAME or not names.isascii():
        return False
    numbers = (level, line, pid, tid)
    return FIRST_SECOND <= time < END_OF_TIME and min(numbers) >= 0 and max(numbers) < 2**63


def _message(record: logging.LogRecord) -> str:
    try:
        return as_text(record.getMessage())
    except Exception:
        message = as_text(getattr(record, "msg", ""))
    args = getattr(record, "args", None)
    return f"{message}{_misfit(args)}" if args else message


_OF_STRUCTLOG = ("_logger", "_name", "_record", "_from_structlog")


def _take_event_dict(event_dict: dict[Any, Any], extra: dict[str, Any], exc_info: Any) -> tuple[str, Any]:
    """Message and exception of a record whose message is structlog's event dict; the other items become extras.

    structlog's ``ProcessorFormatter.wrap_for_formatter`` makes such records, for a formatter that takes them apart.
    """
    fields = dict(event_dict)
    message = fields.pop("event")
    in_dict = fields.pop("exc_info", None)
    if (args := fields.pop("positional_args", None)) and type(message) is str:
        message = _formatted(message, args)
    extra.update(fields)
    for name in _OF_STRUCTLOG:
        extra.pop(name, None)
    is_flag = in_dict and not isinstance(in_dict, (BaseException, tuple))
    return as_text(message), True if is_flag else in_dict or exc_info


def _formatted(message: str, args: Any) -> str:
    try:
        return str(message % args)
    except Exception:
        return f"{message}{_misfit(args)}"


def _misfit(args: object) -> str:
    return f" [arguments that do not fit: {safe_repr(args)}]"


def _extra(extra: dict[str, object]) -> dict[str, Any]:
    for key in list(extra):
        if isinstance(key, str) and key.startswith("_shipper"):
            del extra[key]
    return sanitize_mapping(extra)


def _context(context: Callable[[], Mapping[str, object]] | None) -> dict[str, Any]:
    """The bound fields and the current span, and what the application's callback adds to them."""
    found = surroundings()
    if context is None:
        return found
    try:
        given = context()
        if not given:
            return found
        if not isinstance(given, Mapping):
            raise TypeError(f"a mapping was expected, not {type_name(given)}")
        return {**found, **sanitize_mapping(given)}
    except Exception as exc:
        return {**found, "[context]": f"<no context: {type_name(exc)}: {safe_str(exc, MAX_NAME)}>"}


def task_name() -> object:
    """The name of the running asyncio task, if any. Since Python 3.12 it is in the record."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        if asyncio._get_running_loop() is None:
            return None
        task = asyncio.current_task()
        return None if task is None else task.get_name()
    except Exception:  # asyncio is just being imported, or a loop without tasks
        return None
