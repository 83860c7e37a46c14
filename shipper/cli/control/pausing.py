"""`shipper pause`, `resume` and `retry-now` - whether, and when, a backend is sent to."""

from __future__ import annotations

import argparse
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, NOT_TRIED, OK, complain
from ..status.command import add_selection
from ..terminal import duration, moment, size, wait
from .one_app import Action, chosen, with_app

if TYPE_CHECKING:
    from ...report import BackendStatus, Status
    from ..status.find import Found

CONFIRM_SECONDS = 5.0  # for the shipper process to do what it was asked
ATTEMPT_SECONDS = 15.0  # for the shipper process to make an attempt to send
LOOK_SECONDS = 0.05
_FAILING = ("retrying", "unauthorised", "refused")


def register(commands: argparse._SubParsersAction[Any]) -> None:
    pause = _add(
        commands,
        "pause",
        _pause,
        "send nothing to a backend, until it is resumed",
        "The journal keeps the events of a paused backend, up to its quota; other backends go on. A pause outlives the "
        "shipper process and the application. flush() does not wait for a paused backend, and returns False. Requests "
        "that are under way are finished.",
        """
            shipper pause trakerr                 while the service is being moved
            shipper pause --all --app checkout
        """,
    )
    resume = _add(
        commands,
        "resume",
        _resume,
        "send to a paused backend again",
        "The backend gets what has waited, and what comes.",
        """
            shipper resume trakerr
            shipper resume --all
        """,
    )
    for parser in (pause, resume):
        parser.add_argument("--all", action="store_true", help="all backends of the app")
    _add(
        commands,
        "retry-now",
        _retry_now,
        "send again now to a backend that failed, without waiting",
        "Ends the wait before the next attempt: after a repair, of refused credentials above all, whose waits are "
        "long. Without names: every backend that does not take events.",
        """
            shipper retry-now
            shipper retry-now trakerr
        """,
        epilog="Exit code: 0 they take events; 1 one of them still does not, or no shipper process runs; 2 wrong usage",
    )


def _add(
    commands: argparse._SubParsersAction[Any],
    name: str,
    action: Action,
    text: str,
    more: str,
    examples: str,
    epilog: str = "Exit code: 0 done; 1 there is no such app or backend, or it failed; 2 wrong usage",
) -> argparse.ArgumentParser:
    description = f"{text[0].upper()}{text[1:]}. {more}"
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=description, epilog=f"{epilog}.", examples=examples
    )
    parser.add_argument("backend", nargs="*", metavar="BACKEND", help="its name, as in `shipper status`")
    add_selection(parser)
    parser.set_defaults(run=with_app(action, relays=False), all=False)
    return parser


def _pause(given: argparse.Namespace, app: Found) -> int:
    from ...spool.controls import change_controls, read_controls

    names = _names(given, app)
    if isinstance(names, str):
        return complain(names, code=BAD_NEWS if given.backend else NOT_TRIED)
    before, now = read_controls(app.spool).paused, time.time()
    paused = {name: before.get(name, now) for name in names}
    change_controls(app.spool, lambda each: dataclasses.replace(each, paused={**each.paused, **paused}))
    status = _wait_for(app, lambda status: all(each.state == "paused" for each in _backends(status, names)))
    if status.running and not all(each.state == "paused" for each in _backends(status, names)):
        return _not_confirmed()
    for each in _backends(status, names):
        _say_paused(status, each, before.get(each.name))
    return OK


def _say_paused(status: Status, backend: BackendStatus, before: float | None) -> None:
    if before is not None:
        print(f"{backend.name} has been paused since {moment(before, time.time())}.")
        return
    quota = f", up to {size(status.quota)}" if status.quota > 0 else ""
    print(f"{backend.name} is paused: the journal keeps its events{quota}, until `shipper resume {backend.name}`.")


def _resume(given: argparse.Namespace, app: Found) -> int:
    from ...spool.controls import change_controls, read_controls

    names = _names(given, app)
    if isinstance(names, str):
        return complain(names, code=BAD_NEWS if given.backend else NOT_TRIED)
    before = read_controls(app.spool).paused

    def without(paused: Any) -> dict[str, float]:
        return {name: since for name, since in paused.items() if name not in names}

    change_controls(app.spool, lambda each: dataclasses.replace(each, paused=without(each.paused)))
    status = _wait_for(app, lambda status: all(each.state != "paused" for each in _backends(status, names)))
    if status.running and any(each.state == "paused" for each in _backends(status, names)):
        return _not_confirmed()
    for each in _backends(status, names):
        if each.name not in before:
            print(f"{each.name} was not paused.")
            continue
        what = f" {wait(each.left, 'event')} for it." if each.left else ""
        print(f"{each.name} is resumed, after {duration(time.time() - before[each.name])}.{what}")
    return OK


def _retry_now(given: argparse.Namespace, app: Found) -> int:
    from ...spool.controls import change_controls
    from ..status.diagnosis import is_old

    before = app.read()
    failing = [each.name for each in before.backends if each.state in _FAILING]
    names = chosen(given.backend, _known(before), all_of_them=False) if given.backend else failing
    if isinstance(names, str):
        return complain(names, code=BAD_NEWS)
    if not before.running:
        return complain("no shipper process runs: start the application, which tries at once", code=BAD_NEWS)
    paused = [each.name for each in _backends(before, names) if each.state == "paused"]
    if paused:
        return complain(f"{paused[0]} is paused: `shipper resume {paused[0]}`", code=BAD_NEWS)
    names = [name for name in names if name in failing]
    if not names and is_old(before, time.time()):
        return complain("the shipper process writes no status, so this is not known: see `shipper status`", code=1)
    if not names:
        print("Nothing waits for another attempt: the backends take events.")
        return OK
    now = time.time()
    retry = dict.fromkeys(names, now)
    change_controls(app.spool, lambda each: dataclasses.replace(each, retry={**each.retry, **retry}))
    tried = {each.name: each.retried for each in before.backends}

    def is_tried(each: BackendStatus) -> bool:
        return each.state not in _FAILING or each.retried > tried[each.name]

    status = _wait_for(app, lambda status: all(map(is_tried, _backends(status, names))), ATTEMPT_SECONDS)
    for each in _backends(status, names):
        outcome = f"does not take events: {each.last_error}" if each.state in _FAILING else "takes events again"
        print(f"{each.name} {outcome if is_tried(each) else 'has not answered yet'}.")
    return BAD_NEWS if any(each.state in _FAILING for each in _backends(status, names)) else OK


def _names(given: argparse.Namespace, app: Found) -> list[str] | str:
    return chosen(given.backend, _known(app.read()), all_of_them=given.all)


def _known(status: Status) -> list[str]:
    return [each.name for each in status.backends if each.state != "not configured"]


def _backends(status: Status, names: Sequence[str]) -> list[BackendStatus]:
    return [each for each in status.backends if each.name in names]


def _wait_for(app: Found, is_done: Callable[[Status], bool], seconds: float = CONFIRM_SECONDS) -> Status:
    """Wake the shipper process; wait until ``is_done``, it ends, or ``seconds`` are over; return the last status."""
    from ...spool.joined import announce_flush

    announce_flush(app.spool.joins)
    deadline = time.monotonic() + seconds
    while not is_done(status := app.read()) and status.running and time.monotonic() < deadline:
        threading.Event().wait(LOOK_SECONDS)
    return status


def _not_confirmed() -> int:
    late = "it is noted in the spool, but the shipper process has not said so yet: does it hang? See `shipper status`"
    return complain(late, code=BAD_NEWS)
