"""`shipper status` - finds the spools that are asked for, and says how they do: for a person, or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import stat
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from ...config.state_folder import default_folder
from ...report import Status, apps, read_status
from ...spool.layout import Spool
from .. import BAD_NEWS, OK, complain

Look = Callable[[], list[Status]]
REFRESH = 1.0  # seconds between two looks of --watch


class NoSuchApp(Exception):
    """There is no spool as it was asked for; the text says which there are."""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "status",
        help="how an app's shipper does",
        description="Say how an app's shipper does: what was delivered, what is left, what was dropped and why.",
        epilog="Exit code: 0 when there is something to tell, 1 when there is no such app, 2 for a wrong command line.",
    )
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
    parser.add_argument("--json", action="store_true", help="print it as JSON; a list when there are several apps")
    parser.add_argument("--watch", action="store_true", help="say it again every second, until Ctrl-C")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    try:
        look = _looking_at(given.app, given.spool)
    except NoSuchApp as error:
        return complain(str(error), code=BAD_NEWS)
    show, watch = (_print_json, _watch_json) if given.json else _views()
    if not given.watch:
        show(look())
        return OK
    with contextlib.suppress(KeyboardInterrupt):
        watch(look, REFRESH)
    return OK


def _views() -> tuple[Callable[[list[Status]], None], Callable[[Look, float], NoReturn]]:
    from . import view

    return view.show, view.watch


def _looking_at(app: str | None, path: str | None) -> Look:
    """A function that reads the status of what was asked for. NoSuchApp when there is nothing of the kind."""
    if app is None and path is None:
        app, path = os.environ.get("SHIPPER_APP"), os.environ.get("SHIPPER_SPOOL")
    if path is not None:
        return _reading([(app or os.path.basename(os.path.abspath(path)), _checked(path))])
    known = apps()
    place = os.path.dirname(default_folder("x"))
    if app is not None and app not in known:
        there = f"; there are: {', '.join(known)}" if known else ", nor of any other app"
        raise NoSuchApp(f"there is no spool of an app {app!r} in {place}{there}")
    if not known:
        raise NoSuchApp(f"no app has a spool in {place}; name one that is elsewhere with --spool PATH")
    return _reading([(name, _checked(default_folder(name))) for name in ([app] if app is not None else known)])


def _checked(path: str) -> Spool:
    """The spool in a folder. NoSuchApp when it is none, or nothing in it can be read."""
    spool = Spool(path)
    try:
        queue, owner = os.stat(spool.queue), os.stat(spool.path).st_uid
    except OSError as error:
        raise NoSuchApp(f"there is no spool in {spool.path} ({error.strerror})") from error
    if not stat.S_ISFIFO(queue.st_mode):
        raise NoSuchApp(f"there is no spool in {spool.path} (its queue is no FIFO)")
    if owner != os.geteuid():
        raise NoSuchApp(f"{spool.path} belongs to the user with uid {owner}, who alone may read it: ask as that user")
    return spool


def _reading(spools: list[tuple[str, Spool]]) -> Look:
    return lambda: [read_status(spool, app) for app, spool in spools]


def _print_json(found: list[Status], *, indent: int | None = 2) -> None:
    said = [as_object(status) for status in found]
    print(json.dumps(said[0] if len(said) == 1 else said, indent=indent), flush=True)


def _watch_json(look: Look, pause: float) -> NoReturn:
    """A line each time."""
    waiting = threading.Event()
    while True:
        _print_json(look(), indent=None)
        waiting.wait(pause)


def as_object(status: Status) -> dict[str, Any]:
    """Every field of Status and of each BackendStatus, under its name; also ``left`` and ``total_dropped``."""
    return {**dataclasses.asdict(status), "left": status.left, "total_dropped": status.total_dropped}
