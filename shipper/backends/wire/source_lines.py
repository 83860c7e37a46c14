"""An event's exceptions as text, with source lines."""

from __future__ import annotations

import linecache
import os

from ...event.model import Event
from ...event.tracebacks import traceback_text
from ..protocol import AppContext


def exception_text(event: Event, context: AppContext) -> str | None:
    """The traceback as text, with source lines from files not changed since the event; None without an exception.

    An event from another machine gets no source lines: its files are missing here, or differ.
    """
    if not event.exceptions:
        return None

    def source(file: str, line: int) -> str:
        return context.mask(_source_line(file, line, event.time)) if event.origin is None else ""

    return traceback_text(event.exceptions, source=source).rstrip("\n")


def _source_line(file: str, line: int, time: float) -> str:
    """A line of a source file; "" when there is none, or when the file was changed after ``time``."""
    try:
        changed = os.stat(file).st_mtime
    except (OSError, ValueError):
        return ""
    if changed > time:
        return ""
    linecache.checkcache(file)
    return linecache.getline(file, line)
