"""Which events a command is about: options, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...event.model import Event

ROOT = "root"  # the name that Python prints for the logger without a name


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose events; an event has to fulfil all that are given."""
    parser.add_argument("--level", metavar="LEVEL", help="events of at least this level, a name or a number")
    parser.add_argument("--logger", metavar="NAME", help="events of this logger, and of those below it")
    parser.add_argument(
        "--grep", type=_pattern, metavar="REGEX", help="events with this in message, logger, fields or traceback"
    )


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None


def level_of(given: argparse.Namespace) -> int:
    """The level of ``--level``, 0 without it. ConfigurationError for a text that is no level."""
    from ...backends.settings import validators

    text = given.level
    if text is None:
        return 0
    return validators.level("--level", int(text) if text.isascii() and text.isdigit() else text)


def chooser(given: argparse.Namespace) -> Callable[[Event], bool]:
    """A function that says whether the options choose an event."""
    from .lines import plain

    level, logger, pattern = level_of(given), given.logger, given.grep

    def is_chosen(event: Event) -> bool:
        return (
            event.level >= level
            and (logger is None or is_below(event.logger or ROOT, logger))
            and (pattern is None or pattern.search(plain(event)) is not None)
        )

    return is_chosen


def is_below(name: str, logger: str) -> bool:
    """Whether a logger's name is that of ``logger``, or of one below it; all are below the root."""
    return logger == ROOT or name == logger or name.startswith(f"{logger}.")
