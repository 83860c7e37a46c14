"""structlog: a processor that ships what structlog logs, with its values as typed extras.

>>> structlog.configure(processors=[structlog.contextvars.merge_contextvars, …, ship_event, ConsoleRenderer()])

The processor passes the event on unchanged. Where structlog is set up to log through the standard library
(``structlog.stdlib``), records reach the handler of `shipper.start` anyway; use one of the two, not both.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

from ..application.capture.handler import QueueHandler

_LEVELS = {
    "critical": 50, "fatal": 50, "exception": 40, "error": 40, "warning": 30, "warn": 30, "info": 20, "debug": 10,
}  # fmt: skip
_OURS = frozenset({"event", "exc_info", "stack_info", "level", "logger", "logger_name", "timestamp"})

_handler = QueueHandler()


def ship_event(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor: ship the event, and return it as it came."""
    level = _LEVELS.get(method, logging.getLevelName(str(event.get("level", "info")).upper()))
    name = str(event.get("logger") or event.get("logger_name") or getattr(logger, "name", "") or "structlog")
    record = logging.LogRecord(
        name,
        level if isinstance(level, int) else logging.INFO,
        *_place(),
        str(event.get("event", "")),
        (),
        _exc_info(event.get("exc_info"), method),
    )
    for key, value in event.items():
        if key not in _OURS and not key.startswith("_"):
            record.__dict__.setdefault(str(key), value)
    if isinstance(event.get("stack_info"), str):
        record.stack_info = event["stack_info"]
    _handler.handle(record)
    return event


def _exc_info(given: Any, method: str) -> Any:
    """Return a tuple as in `logging`, or None; users of structlog give True, an exception or a tuple."""
    if given is None and method == "exception":
        given = True
    if isinstance(given, BaseException):
        return type(given), given, given.__traceback__
    if given is True:
        found = sys.exc_info()
        return found if found[0] is not None else None
    return given if isinstance(given, tuple) else None


def _place() -> tuple[str, int]:
    """File and line of the call, outside of structlog and of this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_inner(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _is_inner(module: str) -> bool:
    return module == __name__ or module.partition(".")[0] == "structlog"
