"""What `send` and `pipe` share: their options, a start with the environment's settings, and an end that is told."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .. import app
from ..errors import ConfigurationError
from ..event import Event
from ..handler import Pipeline, running
from ..lock import running as runs
from ..settings import level_number, resolve
from ..spool import Spool, read_json
from ..status import BackendStatus

LOGGER = "shipper"
"""The name that events have whose logger nobody named; at jKool it is the operation."""

_NAMES = {
    "TRACE": 5, "VERBOSE": 10, "WARN": 30, "ERR": 40, "FATAL": 50, "CRIT": 50, "PANIC": 50, "ALERT": 50, "EMERG": 50,
}  # fmt: skip
"""What other programs call levels, besides the names that logging knows."""


def add_options(parser: argparse.ArgumentParser, *, timeout: float, waits_for: str) -> None:
    parser.add_argument("--level", type=_level, default=logging.INFO, help="a number, or a name such as INFO (INFO)")
    parser.add_argument("--logger", default=LOGGER, metavar="NAME", help="the event's logger (%(default)s)")
    parser.add_argument("--app", metavar="NAME", help="the app that it belongs to (default: named after this folder)")
    parser.add_argument("--spool", metavar="FOLDER", help="the app's folder (default: the usual one)")
    parser.add_argument(
        "--timeout", type=_seconds, default=timeout, metavar="S", help=f"seconds to wait {waits_for} (%(default)g)"
    )


def level(text: str) -> int:
    """The level that a program means by a name or a number; ConfigurationError for anything else."""
    name = text.strip().upper()
    if name in _NAMES:
        return _NAMES[name]
    return level_number("level", int(name) if name.isascii() and name.isdigit() else name)


def _level(text: str) -> int:
    try:
        return level(text)
    except ConfigurationError:
        raise argparse.ArgumentTypeError(f"{text!r} is no level: a number, or a name such as INFO") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if 0 <= seconds < math.inf:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")


@contextmanager
def started(given: argparse.Namespace) -> Iterator[Pipeline]:
    """Ship to the backends that the environment names, as the app that was given; at the end nothing is waited for.

    ConfigurationError when there is none, or when that app's own processes run with other settings: starting would
    replace theirs.
    """
    settings = resolve((), {"app": given.app, "spool": given.spool})
    place = Spool(settings.spool)
    holder = runs(place)
    if holder is not None and holder.get("digest") not in (None, settings.digest) and _has_writers(place):
        raise ConfigurationError(
            "app", settings.app, "it runs with other settings than the environment's; give another"
        )
    app.start(app=given.app, spool=given.spool, attach=False)
    pipeline = running()
    assert pipeline is not None
    try:
        yield pipeline
    finally:
        app.stop(0)


def _has_writers(place: Spool) -> bool:
    return (read_json(place.status) or {}).get("writers") is not False


def unheard(levels: int) -> str:
    """What to say when no backend takes events of that level; "" when one does."""
    running_app = app.current()
    assert running_app is not None
    least = min(backend.level for backend in running_app.settings.backends)
    if levels >= least:
        return ""
    return f"no backend takes events at level {logging.getLevelName(levels)}: {logging.getLevelName(least)} and above"


def event(message: str, level: int, logger: str, when: float, extra: dict[str, Any] | None = None) -> Event:
    """An event of a program that is not this one."""
    name = logging.getLevelName(level)
    return Event(time=when, level=level, level_name=name, logger=logger, message=message, extra=extra or {})


def flush(seconds: float, *, delivered: bool) -> bool:
    """Wait until everything is delivered, or only journaled."""
    running_app = app.current()
    return running_app is not None and running_app.flush(time.monotonic() + seconds, delivered=delivered)


def backends() -> tuple[BackendStatus, ...]:
    """How they do."""
    return app.status().backends


def place() -> str:
    """The folder of the app that was started."""
    return app.status().spool


def dead() -> dict[str, int]:
    """How many events each backend refused so far."""
    return {backend.name: backend.dead for backend in backends()}
