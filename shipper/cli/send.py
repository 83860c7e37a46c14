"""`shipper send` - ships one event, and waits until it is delivered."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from . import BAD_NEWS, NOT_TRIED, OK, complain
from .parsing import number_of_seconds

if TYPE_CHECKING:
    from ..application.runtime import App
    from ..config.settings import Settings
    from ..event.model import Event

LATER = 3
TIMEOUT = 5.0
JOURNALING = 5.0  # seconds at most, after the timeout, until the event is in the journal
LONGEST = 1024 * 1024  # bytes of a traceback that are read


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "send",
        help="ship one event",
        description="Ship one event to the services that the environment names (SHIPPER_TRAKERR_API_KEY, "
        "SHIPPER_JKOOL_TOKEN, and any other SHIPPER_ setting), and wait until it is delivered.",
        epilog=f"Exit code: 0 delivered; 1 refused by a service, or dropped; 2 not tried; {LATER} not "
        "delivered yet: it is in the journal, and is delivered as soon as the services take it or, if that takes long, "
        "with the next command that has the same settings.",
        examples="""
            shipper send "deployed 1.4.2" --logger deploy --extra host=web1
            backup 2> errors || shipper send "backup failed" --exception-from errors
        """,
    )
    parser.add_argument("message")
    parser.add_argument("--level", help="the level, a name or a number (INFO; ERROR with an exception)")
    parser.add_argument("--logger", default="shipper.send", metavar="NAME", help="the logger's name (%(default)s)")
    parser.add_argument(
        "--extra", action="append", type=_pair, default=[], metavar="KEY=VALUE", help="a field; may be repeated"
    )
    parser.add_argument(
        "--exception-from",
        metavar="FILE",
        help="a file with the text of a traceback, - for standard input; one that Python printed is sent as exceptions",
    )
    parser.add_argument("--app", metavar="NAME", help="ship as this app (default: named after the services)")
    parser.add_argument("--spool", metavar="PATH", help="the app's folder, when that is not in the default place")
    parser.add_argument(
        "--timeout",
        type=number_of_seconds(0, 86400),
        default=TIMEOUT,
        metavar="S",
        help="how long to wait for delivery (%(default)g)",
    )
    parser.set_defaults(run=run)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def run(given: argparse.Namespace) -> int:
    from ..report import read_status
    from ..spool.layout import Spool
    from .starting import begin, settings_for

    settings = settings_for(given.app, given.spool)
    try:
        event = _event(given)
    except OSError as error:
        return complain(f"--exception-from {given.exception_from}: {error.strerror}", code=NOT_TRIED)
    _check_level(settings, event.level)
    before = {backend.name: backend.dead for backend in read_status(Spool(settings.spool), settings.app).backends}
    app = begin(settings)
    if not app.pipeline.enqueue(event):
        return complain("the event was dropped", code=BAD_NEWS)
    try:
        return _outcome(app, given.timeout, before)
    finally:
        _stop()


def _event(given: argparse.Namespace) -> Event:
    """The event that the options describe. OSError when the traceback cannot be read."""
    import logging

    from ..application.capture.record import from_record
    from ..event.sanitize import sanitize
    from .starting import level_from

    text = None if given.exception_from is None else _read(given.exception_from)
    level = level_from(given.level or ("INFO" if text is None else "ERROR"))
    record = logging.LogRecord(given.logger, level, "", 0, given.message, None, None)
    record.exc_text = text
    event = from_record(record)
    event.extra = sanitize(dict(given.extra))  # not through the record: a key may be the name of one of its attributes
    return event


def _read(path: str) -> str:
    if path == "-":
        raw = sys.stdin.buffer.read(LONGEST)
    else:
        with open(path, "rb") as file:
            raw = file.read(LONGEST)
    return raw.decode("utf-8", "backslashreplace").replace("\r\n", "\n").strip("\n")


def _check_level(settings: Settings, level: int) -> None:
    """ConfigurationError when no backend takes the event's level."""
    from ..errors import ConfigurationError

    if all(level < backend.level for backend in settings.backends):
        takes = ", ".join(f"{backend.name} takes {backend.level} and above" for backend in settings.backends)
        raise ConfigurationError("--level", level, f"no backend takes it: {takes}")


def _outcome(app: App, timeout: float, before: dict[str, int]) -> int:
    if not app.flush(time.monotonic() + timeout):
        journaled = app.flush(time.monotonic() + JOURNALING, delivered=False) or app.supervisor.drain_pipe()
        if not journaled:
            return complain("not delivered, and not in the journal yet: is the disk full?", code=BAD_NEWS)
        refusing = [each for each in app.status().backends if each.state in _REFUSALS]
        if refusing:
            said = "; ".join(f"{each.name} {_REFUSALS[each.state]} ({each.last_error})" for each in refusing)
            return complain(f"{said}; it is in the journal, and will be delivered once that ends", code=BAD_NEWS)
        said = f"not delivered within {timeout:g} s; it is in the journal, and will be delivered later"
        return complain(said, code=LATER)
    refused = [each for each in app.status().backends if each.dead > before.get(each.name, 0)]
    if refused:
        said = "; ".join(f"{each.name} refused it ({each.last_error or 'see its dead letters'})" for each in refused)
        return complain(f"{said}; it is kept in {app.spool.dead}", code=BAD_NEWS)
    return OK


_REFUSALS = {"refused": "refused it, and every event so far", "unauthorised": "refuses the credentials or redirects"}


def _stop() -> None:
    from ..application.api import stop

    stop(0.0)
