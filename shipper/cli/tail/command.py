"""`shipper tail` - prints events from the journal, delivered or not, and with `-f` those to come."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, NOT_TRIED, OK, complain, terminal
from ..dead.selection import moment
from ..status.command import add_selection
from .selection import add_filters, chooser, level_of

if TYPE_CHECKING:
    from ...event.model import Event
    from ...journal.history import History
    from ..status.find import Found

LINES = 10  # events that are printed without --since
FLUSHED_EVENTS = 100  # of a burst, after which stdout is flushed
LOOK_SECONDS = 0.1  # between two looks at a journal that has not grown
SPOOL_SECONDS = 0.5  # between two looks for a spool that is not there yet


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "tail",
        help="print events as they travel, and those that travelled",
        description="Print events from an app's journal, delivered or not, as they are in there: masked. It reads "
        "files only: nothing is stopped or delayed. What was delivered goes back as far as the journal does, and as "
        "spooling.keep (SHIPPER_SPOOLING_KEEP) keeps it.",
        epilog="Exit code: 0; 1 there is no such app, or nothing was found; 2 wrong usage; 130 stopped by Ctrl-C.",
        examples="""
            shipper tail -f checkout                       the last ten events, then those to come
            shipper tail --since 10m --level warning       warnings and errors of the last ten minutes
            shipper tail -f --logger django --grep 'GET /cart'
            shipper tail --since 2h --json | jq .message   for a program
        """,
    )
    parser.add_argument("named", nargs="?", metavar="APP", help="the app, by its name")
    add_selection(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", type=_count, metavar="N", help=f"the last N events ({LINES}; with --since: all)"
    )
    parser.add_argument(
        "--since", type=moment, metavar="WHEN", help="events from this time on: 10m, 2h, 3d, or 2026-11-29T14:00"
    )
    add_filters(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object per event and line")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events")
    return int(text)


def run(given: argparse.Namespace) -> int:
    from ..status.find import NoSuchApp, as_user

    if given.named is not None and (given.app or given.spool):
        return complain("name the app once: APP, --app or --spool", code=NOT_TRIED)
    level_of(given)  # an unknown level is reported before an app is searched for
    try:
        found = _find(given)
    except NoSuchApp as error:
        return complain(str(error), code=BAD_NEWS)
    if len(found) > 1:
        names = ", ".join(dict.fromkeys(each.app for each in found))
        return complain(f"there are several apps, choose one: {names}", code=NOT_TRIED)
    return as_user(found[0].uid, lambda: _tail(given, found[0]))


def _find(given: argparse.Namespace) -> list[Found]:
    """The spools that are chosen; with ``--follow``, wait for one that is named but missing. NoSuchApp if none is."""
    from ..status.find import NoSuchApp, find

    waiting = False
    while True:
        try:
            return find(given.named or given.app, given.spool)
        except NoSuchApp as error:
            if not given.follow or not (given.named or given.app or given.spool):
                raise
            if not waiting:
                complain(f"{error}; waiting for it", code=OK)
            waiting = True
            given.since = given.since or 0.0  # all that comes is new
        threading.Event().wait(SPOOL_SECONDS)


def _tail(given: argparse.Namespace, app: Found) -> int:
    from .lines import as_json, printer

    show: Callable[[Event], str] = as_json if given.json else printer(wanted=terminal.is_coloured())
    is_chosen = chooser(given)
    history, before = _before(given, app, is_chosen)
    with contextlib.closing(history):
        if not _print(before, show) and not given.follow:
            return _nothing(given)
        while given.follow:
            with contextlib.suppress(OSError):  # no descriptor is free now
                _print((event for event in _events(history, follow=True) if is_chosen(event)), show)
            threading.Event().wait(LOOK_SECONDS)
    return OK


def _print(events: Iterable[Event], show: Callable[[Event], str]) -> int:
    """Print events as soon as they come; how many."""
    count = 0
    for count, event in enumerate(events, 1):
        sys.stdout.write(show(event))
        if count % FLUSHED_EVENTS == 0:
            sys.stdout.flush()
    sys.stdout.flush()
    return count


def _nothing(given: argparse.Namespace) -> int:
    chosen = any((given.since, given.level, given.logger, given.grep))
    return complain("no event is chosen by these options" if chosen else "there is no event yet", code=BAD_NEWS)


def _before(
    given: argparse.Namespace, app: Found, is_chosen: Callable[[Event], bool]
) -> tuple[History, Iterable[Event]]:
    """The journal, and the events in it that are to be printed; once they are used up, the journal was read to its end.

    Without ``--since``, the last segment is read first; while it holds too few of the events, earlier ones are added.
    """
    from ...journal.history import History, first_since, recorded_segments

    folders = app.spool.journal, app.spool.kept
    most = LINES if given.lines is None and given.since is None else given.lines
    numbers = recorded_segments(*folders) or [1]
    first = 0 if given.since is not None else len(numbers) - 1
    while True:
        number = first_since(*folders, given.since) if given.since is not None else numbers[first]
        history = History(*folders, number, level=level_of(given))
        # With --follow, half a frame at the end is kept until its rest comes.
        events = (each for each in _events(history, since=given.since, follow=given.follow) if is_chosen(each))
        if most is None:
            return history, events
        last = deque(events, most)
        if first == 0 or len(last) == most:
            return history, last
        history.close()
        first = max(0, len(numbers) - 2 * (len(numbers) - first))


def _events(history: History, *, since: float | None = None, follow: bool = False) -> Iterator[Event]:
    """Yield the next events, those before ``since`` left out. An event that can't be read is reported on stderr."""
    from ...errors import UndecodableError
    from ...event.codec import packed_time, unpack

    for _, id, _, payload in history.read(follow=follow):
        when = packed_time(payload) if since is not None else None
        if since is not None and when is not None and when < since:
            continue
        try:
            event = unpack(payload, id)
        except UndecodableError as error:
            complain(f"the event {id} can't be read: {error}", code=OK)
            continue
        if since is None or event.time >= since:
            yield event
