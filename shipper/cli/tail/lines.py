"""Events as lines: for a terminal, for a file, or as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import re
from collections.abc import Callable

from ...backends.wire.json_body import json_text, readable
from ...event.model import Event
from ...event.tracebacks import traceback_text
from .. import terminal

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters with which an event could move the cursor, or reorder the text beside it."""


def printer(*, wanted: bool) -> Callable[[Event], str]:
    """A function that gives an event's lines, with colours if those are ``wanted``."""

    def show(event: Event) -> str:
        when, level, rest, below = _parts(event)
        line = _coloured(when, "dim") + _coloured(level, _colour(event.level)) + rest
        return f"{line}{_coloured(below, 'dim')}\n"

    def _coloured(text: str, colour: str) -> str:
        return terminal.coloured(text, colour, wanted=wanted and bool(text))

    return show


plain = printer(wanted=False)
"""A function that returns an event as `shipper tail` prints it without colours, ended by a newline."""


def _parts(event: Event) -> tuple[str, str, str, str]:
    """The time, the level, the rest of the line, and the lines below it."""
    when = datetime.datetime.fromtimestamp(event.time).isoformat(" ", "milliseconds")
    fields = {**event.context, **event.extra, **event.data}
    rest = f" {event.logger or 'root'}: {event.message}{' ' + readable(fields) if fields else ''}"
    below = "\n".join(filter(None, (traceback_text(event.exceptions).rstrip("\n"), event.stack)))
    level = f" {event.level_name or logging.getLevelName(event.level):<8}"
    return when, _safe(level), _indented(rest), _safe(f"\n{below}") if below else ""


def _indented(text: str) -> str:
    """The text with all lines but the first indented, so that none looks like another event."""
    return _safe(text).replace("\n", "\n    ")


def _safe(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _colour(level: int) -> str:
    if level >= logging.ERROR:
        return "red"
    return "yellow" if level >= logging.WARNING else "green" if level >= logging.INFO else "dim"


def as_json(event: Event) -> str:
    """One JSON object and a newline: the event's fields, as in a dead letter."""
    fields = {**dataclasses.asdict(event), "id": str(event.id)}
    del fields["origin"]  # everything in a journal was logged here
    return json_text(fields) + "\n"
