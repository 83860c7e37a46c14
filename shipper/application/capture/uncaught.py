"""Exceptions that no code catches, shipped as critical: `start(uncaught=True)`.

Covered: the main thread, other threads (`threading.excepthook`), exceptions that Python can only print (in `__del__`,
in callbacks of C code), and asyncio's default exception handler. The hooks that were set before run too. Not covered:
workers of multiprocessing and greenlets of gevent, which print their exceptions themselves.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from types import FunctionType, GeneratorType, TracebackType
from typing import Any

from ..._support.lazy_pattern import LazyPattern
from .handler import QueueHandler
from .record import LEVEL

LOGGER = "shipper.uncaught"
"""The logger's name in these events."""

_ADDRESS = LazyPattern(r" at 0x[0-9a-fA-F]+")

_NOT_ERRORS = (KeyboardInterrupt, SystemExit, GeneratorExit)


class UncaughtHooks:
    """`install` and `uninstall` are idempotent. After both, a hook that other code has wrapped ships nothing."""

    def __init__(self) -> None:
        self._is_installed = False
        self._shipping = threading.local()  # `now`: whether this thread is in `_ship`, where exceptions are not shipped

    def install(self) -> None:
        if self._is_installed:
            return
        self._is_installed = True
        self._main, sys.excepthook = sys.excepthook, self._on_main
        self._thread, threading.excepthook = threading.excepthook, self._on_thread
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        logging.getLogger("asyncio").addFilter(_raise_level)

    def uninstall(self) -> None:
        if not self._is_installed:
            return
        self._is_installed = False
        if sys.excepthook == self._on_main:
            sys.excepthook = self._main
        if threading.excepthook == self._on_thread:
            threading.excepthook = self._thread
        if sys.unraisablehook == self._on_unraisable:
            sys.unraisablehook = self._unraisable
        logging.getLogger("asyncio").removeFilter(_raise_level)

    def _on_main(self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        self._ship("uncaught exception", error, traceback)
        self._main(kind, error, traceback)

    def _on_thread(self, args: Any) -> None:
        name = getattr(args.thread, "name", None)
        self._ship(f"uncaught exception in thread {name}", args.exc_value, args.exc_traceback)
        self._thread(args)

    def _on_unraisable(self, args: Any) -> None:
        self._ship(_describe(args.err_msg, args.object), args.exc_value, args.exc_traceback)
        self._unraisable(args)

    def _ship(self, message: str, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not self._is_installed or error is None or isinstance(error, _NOT_ERRORS):
            return
        if getattr(self._shipping, "now", False):
            return
        self._shipping.now = True
        with contextlib.suppress(Exception):  # the interpreter may be ending
            QueueHandler().handle(_record(message, error, traceback))
        self._shipping.now = False


def _describe(message: str | None, place: object) -> str:
    """A text without addresses, so equal for equal places: since Python 3.14 the message has the callable's repr."""
    text = str(_ADDRESS.sub("", message or "exception ignored in"))
    if place is None:
        return text
    # Of other objects only the type is read: they may be half destroyed.
    named = place if isinstance(place, (FunctionType, GeneratorType)) else type(place)
    return f"{text}: {named.__qualname__}"


def _record(message: str, error: BaseException, traceback: TracebackType | None) -> logging.LogRecord:
    """A record with the place where the exception was raised."""
    last = traceback
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    code = None if last is None else last.tb_frame.f_code
    path, function = ("", "") if code is None else (code.co_filename, code.co_name)
    line = 0 if last is None else last.tb_lineno
    exc_info = (type(error), error, traceback)
    return logging.LogRecord(LOGGER, logging.CRITICAL, path, line, message, None, exc_info, function)


def _raise_level(record: logging.LogRecord) -> bool:
    """Have asyncio's unhandled exceptions shipped as critical; other handlers get the record unchanged."""
    if record.levelno >= logging.ERROR and record.exc_info:
        record.__dict__[LEVEL] = logging.CRITICAL
    return True


hooks = UncaughtHooks()
"""The hooks of this process."""
