"""exc_info in any of its forms → Stacktrace."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Union

from ..backends.wire.trakerr_event import relative
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
"""False: none. True or None: the exception that is being handled. Otherwise an exception, or its triple."""


def exceptions_of(exc_info: object) -> list[ExceptionInfo]:
    """The exception with its causes, contexts and members; TypeError for anything else than an exc_info."""
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
    """The exceptions as a model; file names below ``cwd`` become relative to it."""
    return Stacktrace(
        InnerStackTrace(
            exception.type,
            exception.message_and_notes,
            StackTraceLines(
                StackTraceLine(frame.function, frame.line, relative(frame.file, cwd)) for frame in exception.frames
            ),
        )
        for exception in exceptions
    )


def working_directory() -> str:
    """The working directory; when it no longer exists, a path that no file is below."""
    try:
        return os.getcwd()
    except OSError:
        return os.devnull
