"""Which dead letters a command is about: options, and what they mean."""

from __future__ import annotations

import argparse
import datetime
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...delivery.dead.store import Letter

_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose letters; a letter has to fulfil all that are given."""
    parser.add_argument("--backend", metavar="NAME", help="letters of this backend")
    parser.add_argument(
        "--since", type=moment, metavar="WHEN", help="letters from this time on: 10m, 2h, 3d, or 2026-11-29T14:00"
    )
    parser.add_argument("--match", metavar="TEXT", help="letters with this text in their message or reason")


def moment(text: str) -> float:
    """Seconds since the epoch, from an age (``10m``, ``2h``, ``3d``) or a local time in ISO 8601."""
    age = _AGE.fullmatch(text)
    if age is not None:
        return time.time() - float(age[1]) * _SECONDS[age[2]]
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither an age (10m, 2h, 3d) nor a time") from None


def chooser(given: argparse.Namespace) -> Callable[[Letter], bool]:
    """A function that says whether ids, ``--since`` and ``--match`` choose a letter, whatever its backend."""
    ids = getattr(given, "id", None) or []

    def is_chosen(letter: Letter) -> bool:
        return (
            (not ids or any(letter.id.startswith(each) for each in ids))
            and (given.since is None or letter.time >= given.since)
            and (given.match is None or given.match in letter.message or given.match in letter.reason)
        )

    return is_chosen


def is_everything(given: argparse.Namespace) -> bool:
    """Whether no option restricts the choice."""
    return not getattr(given, "id", None) and given.backend is None and given.since is None and given.match is None
