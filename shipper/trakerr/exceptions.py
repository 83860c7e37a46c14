"""exc_info of any kind → Stacktrace."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Union

from ..backends.trakerr_event import relative
from ..event.exceptions import ExceptionInfo, capture_exceptions
from .models import InnerStackTrace, Stacktrace, StackTraceLine, StackTraceLines

ExcInfo = Union[
    bool,
    None,
    BaseException,
    "tuple[type[BaseException], BaseException, TracebackType | None]",
    "tuple[None, None, None]",
    "list[object]",
]
"""False: none. True or None: the exception that is being handled. Else an exception, or a triple of it."""


def found(exc_info: object) -> list[ExceptionInfo]:
    """The exception and all that belong to it; TypeError for what is no exc_info."""
    if exc_info is False:
        return []
    if exc_info is None or exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        return capture_exceptions(exc_info)
    if isinstance(exc_info, (tuple, list)) and len(exc_info) == 3:
        kind, value, traceback = exc_info
        if kind is None and value is None and traceback is None:
            return []
        if isinstance(value, BaseException) and isinstance(traceback, (TracebackType, type(None))):
            return capture_exceptions((kind, value, traceback))
    raise TypeError("exc_info is expected an exc_info info tuple or False.")


def stacktrace(exceptions: Sequence[ExceptionInfo], cwd: str) -> Stacktrace:
    """Files below ``cwd`` are named relative to it."""
    return Stacktrace(
        InnerStackTrace(
            one.type,
            one.message,
            StackTraceLines(
                StackTraceLine(frame.function, frame.line, relative(frame.file, cwd)) for frame in one.frames
            ),
        )
        for one in exceptions
    )


def working_directory() -> str:
    """Where we are; when that folder is gone, a path that nothing lies under."""
    try:
        return os.getcwd()
    except OSError:
        return os.devnull
