"""`shipper level` - other levels in a running app, for a while."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import NOT_TRIED, OK, complain
from ..parsing import seconds
from ..status.command import add_selection
from ..terminal import duration
from .one_app import with_app

if TYPE_CHECKING:
    from ...report import Status
    from ..status.find import Found

USUAL_SECONDS = 600.0
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "level",
        help="set levels of a running app, for a while",
        description="Sets the level of a logger, or without a name that of shipper's handler, in all processes of a "
        "running app, and in those that start before the time is over. Then the level goes back by itself; it does too "
        "when the app stops. Without arguments: the levels that are set. Other handlers of the application get the "
        "records of a logger whose level is lowered too. Processes look once a second; a forked one from its first "
        "record on.",
        epilog="Exit code: 0 done; 1 there is no such app, or it failed; 2 wrong usage.",
        examples="""
            shipper level orders=DEBUG --for 10m        a logger and those below it
            shipper level root=INFO sqlalchemy=DEBUG
            shipper level DEBUG                         the handler's: when level= or SHIPPER_LEVEL hides records
            shipper level --reset                       back to what the application has set
        """,
    )
    parser.add_argument(
        "level", nargs="*", type=_parsed, metavar="[NAME=]LEVEL", help="a logger, and a level by name or number"
    )
    parser.add_argument(
        "--for",
        dest="duration",
        type=_duration,
        default=USUAL_SECONDS,
        metavar="TIME",
        help="how long, at most 7d (default: 10m)",
    )
    parser.add_argument("--reset", action="store_true", help="end all levels that were set")
    add_selection(parser)
    parser.set_defaults(run=with_app(_level, relays=False))


def _duration(text: str) -> float:
    from ...spool.controls import MAX_LEVEL_SECONDS

    found = seconds(text)
    if not 0 < found <= MAX_LEVEL_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time of more than 0 s and at most 7 d")
    return found


def _level(given: argparse.Namespace, app: Found) -> int:
    from ...spool.controls import MAX_LEVELS, change_controls

    status = app.read()
    if given.reset:
        change_controls(app.spool, lambda each: dataclasses.replace(each, levels={}))
        print(f"The levels of {status.app} go back to what it has set, within a second.")
        return OK
    if not given.level:
        return _list(status)
    wanted: dict[str, int] = dict(given.level)
    until = time.time() + given.duration
    levels = {name: (level, until) for name, level in wanted.items()}
    if len({*status.levels_set, *levels}) > MAX_LEVELS:
        return complain(f"more than {MAX_LEVELS} levels would be set: `shipper level --reset`", code=NOT_TRIED)
    change_controls(app.spool, lambda each: dataclasses.replace(each, levels={**each.levels, **levels}))
    at = time.strftime("%H:%M:%S", time.localtime(until))
    for name, level in wanted.items():
        what = f"The level of {_named(name)} is {logging.getLevelName(level)}"
        print(f"{what} for {duration(given.duration)}, until {at}, in all processes of {status.app} within a second.")
    for line in _hidden(status, min(wanted.values())):
        print(line)
    return OK


def _parsed(text: str) -> tuple[str, int]:
    from ...errors import ConfigurationError
    from ..starting import level_from

    name, equals, level = text.rpartition("=")
    if equals and not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LEVEL")
    try:
        return name, level_from(level)
    except ConfigurationError:
        close = difflib.get_close_matches(level.upper(), LEVELS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"levels are {', '.join(LEVELS)}, or numbers"
        raise argparse.ArgumentTypeError(f"{level!r} is no level; {hint}") from None


def _named(name: str) -> str:
    return f"the logger {name!r}" if name else "the handler"


def _list(status: Status) -> int:
    now = time.time()
    for name, (level, until) in status.levels_set.items():
        print(f"The level of {_named(name)} is {level} for {duration(until - now)} more.")
    if not status.levels_set:
        print("No level is set: `shipper level NAME=DEBUG --for 10m` sets one.")
    return OK


def _hidden(status: Status, level: int) -> Iterator[str]:
    """Which backends do not take records of this level."""
    for backend in status.backends:
        if backend.level > level and backend.state != "not configured":
            takes = logging.getLevelName(backend.level)
            yield f"{backend.name} takes records from {takes} on: those below it are journaled, and not sent there."
