"""`shipper status` - the state of an app's shipper: for people, probes and programs."""

from __future__ import annotations

import argparse
import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import BAD_NEWS, OK, complain
from .as_json import as_object
from .diagnosis import NOT_RUNNING, WORST_FIRST, diagnose, severity
from .find import Found, NoSuchApp, find

REFRESH = 1.0  # seconds between two looks of --watch


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "status",
        help="say how an app's shipper does",
        description="Say how an app's shipper does: what is wrong and what to do about it, then what was delivered, "
        "what is left, and what was dropped and why. Root sees the apps of all users.",
        epilog="Exit code: 0 when there is something to say, 1 when there is no such app, 2 for a wrong command line. "
        "With --check: 0 healthy; 1 degraded: events wait, nothing is lost; 2 failing: events were lost in the last "
        "ten minutes, or nothing is delivered until a person acts; 3 no shipper process runs, or there is no such "
        "app. Of several apps, the worst counts, in the order 2, 3, 1, 0.",
        examples="""
            shipper status                                  what is wrong, and what to do about it
            shipper status --app checkout --watch           the same every second
            shipper status --check || alert                 for a probe
            shipper status --json | jq '.[0].backends'      for a program
        """,
    )
    add_selection(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print a JSON list with an object for each app")
    how.add_argument("--prometheus", action="store_true", help="print metrics, as OpenMetrics text")
    how.add_argument("--check", action="store_true", help="print one line for each app; the exit code is its health")
    parser.add_argument(
        "--servers",
        metavar="URLS",
        help="the stream on these NATS servers: what waits for each backend, and relays",
    )
    parser.add_argument("--watch", action="store_true", help="repeat it every second, until Ctrl-C")
    parser.set_defaults(run=run)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options --app and --spool."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--app",
        metavar="NAME",
        help="the app, by its name ($SHIPPER_APP; default: the only one there is, else all of them in short)",
    )
    which.add_argument(
        "--spool",
        metavar="PATH",
        help="the app, by its folder, when that is not in the default place ($SHIPPER_SPOOL)",
    )


def run(given: argparse.Namespace) -> int:
    if given.servers is not None:
        from .relays import run_for_stream

        return run_for_stream(given)
    try:
        found = find(given.app, given.spool)
        show = _show(given)
        if not given.watch:
            return show(found)
        with contextlib.suppress(KeyboardInterrupt):
            _repeat(lambda: show(found))
        return OK
    except NoSuchApp as error:
        return complain(str(error), code=NOT_RUNNING if given.check else BAD_NEWS)


def _show(given: argparse.Namespace) -> Callable[[Sequence[Found]], int]:
    if given.json:
        return lambda found: _print_json(found, indent=None if given.watch else 2)
    if given.prometheus:
        return _print_metrics
    return _check if given.check else lambda found: _print_text(found, in_place=given.watch)


def _repeat(show: Callable[[], int]) -> NoReturn:
    waiting = threading.Event()
    while True:
        show()
        waiting.wait(REFRESH)


def _print_text(found: Sequence[Found], *, in_place: bool) -> int:
    from . import view

    view.show([each.read() for each in found], in_place=in_place)
    return OK


def _print_json(found: Sequence[Found], *, indent: int | None) -> int:
    print(json.dumps([as_object(each.read(), user=each.user) for each in found], indent=indent), flush=True)
    return OK


def _print_metrics(found: Sequence[Found]) -> int:
    from .openmetrics import openmetrics

    print(openmetrics([(each.user, each.read()) for each in found]), end="", flush=True)
    return OK


def _check(found: Sequence[Found]) -> int:
    from . import view

    worst = []
    for each in found:
        status = each.read()
        findings = diagnose(status)
        worst.append(severity(findings))
        print(view.headline(status, findings), flush=True)
    return min(worst, key=WORST_FIRST.index)
