"""`shipper dead` - lists, shows, replays and deletes dead letters: events that a backend has rejected."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, NOT_TRIED, OK, complain, terminal
from ..control.one_app import with_app
from ..status.command import add_selection
from .places import Place, SpoolPlace, StreamPlace
from .selection import add_options, chooser, is_everything

if TYPE_CHECKING:
    from ...delivery.dead.store import Letter

Run = Callable[[argparse.Namespace, Place], int]

WIDTH = 60  # characters of a message and of a reason in a list


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "dead",
        help="list, show, replay or delete dead letters",
        description="Dead letters are events that a backend has rejected. They are kept in the spool. Once the reason "
        "is corrected, replay them: they become events again, for this backend alone, with the ids that they had. "
        "All of it works while the shipper process runs.",
        epilog="Exit code: 0 done; 1 there is no such letter or app, or it failed; 2 wrong usage.",
        examples="""
            shipper dead list --since 2h
            shipper dead show 5f1c
            shipper dead replay --backend trakerr --match "no such field"
            shipper dead purge --match "no such field"
        """,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    _add(actions, "list", _list, "list them, oldest first")
    show = _add(actions, "show", _show, "print letters as JSON, whole")
    show.add_argument("id", nargs="+", metavar="ID", help="a letter's id, or its beginning")
    replay = _add(actions, "replay", _replay, "make them events again, and remove them here")
    replay.add_argument("id", nargs="*", metavar="ID", help="a letter's id, or its beginning (default: all)")
    purge = _add(actions, "purge", _purge, "delete them")
    purge.add_argument("id", nargs="*", metavar="ID", help="a letter's id, or its beginning")
    purge.add_argument("--all", action="store_true", help="delete all of them")


def _add(actions: argparse._SubParsersAction[Any], name: str, run: Run, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"Dead letters: {text}.")
    add_selection(parser)
    parser.add_argument("--servers", metavar="URLS", help="the letters of relays, in the stream on these NATS servers")
    add_options(parser)
    parser.set_defaults(run=_run_in(run))
    return parser


def _run_in(run: Run) -> Callable[[argparse.Namespace], int]:
    """Run an action on the letters of a stream, or of the one app that the options name."""
    in_spool = with_app(lambda given, app: run(given, SpoolPlace(app)))
    return lambda given: in_spool(given) if given.servers is None else _run_on_stream(given, run)


def _run_on_stream(given: argparse.Namespace, run: Run) -> int:
    from ...delivery.dead.store import DeadLettersError
    from ..servers import connected, stream_settings

    settings = stream_settings(given)
    try:
        with connected(settings, "dead") as client:
            return run(given, StreamPlace(client, settings))
    except DeadLettersError as error:
        return complain(str(error), code=BAD_NEWS)


def _chosen(given: argparse.Namespace, place: Place) -> list[tuple[str, Letter]]:
    is_chosen = chooser(given)
    stores = place.stores(given.backend)
    return [(name, letter) for name, store in stores for letter in store.letters() if is_chosen(letter)]


def _none(given: argparse.Namespace) -> int:
    if is_everything(given):
        return complain("there is no dead letter", code=OK)
    ids = " or ".join(getattr(given, "id", None) or ())
    what = f"there is no dead letter {ids}" if ids else "no dead letter is chosen by these options"
    return complain(f"{what}: see `shipper dead list`", code=BAD_NEWS)


def _list(given: argparse.Namespace, place: Place) -> int:
    letters = _chosen(given, place)
    if not letters:
        return _none(given)
    header = ("id", "backend", "rejected", "reason", "message")
    rows = [_row(name, letter) for name, letter in sorted(letters, key=lambda each: each[1].time)]
    print("\n".join(terminal.table(header, rows, left=len(header))))
    return OK


def _row(name: str, letter: Letter) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(letter.time))
    message = letter.message if letter.is_event else "(not an event)"
    return (letter.id, name, when, _short(letter.reason), _short(message))


def _short(text: str) -> str:
    line = " ".join(text.split())
    printable = "".join(character if character.isprintable() else "?" for character in line)
    return printable if len(printable) <= WIDTH else f"{printable[: WIDTH - 1]}…"


def _show(given: argparse.Namespace, place: Place) -> int:
    letters = _chosen(given, place)
    if not letters:
        return _none(given)
    for _, letter in letters:
        print(json.dumps(letter.data, indent=2))
    return OK


def _replay(given: argparse.Namespace, place: Place) -> int:
    is_chosen, total, left_out = chooser(given), 0, 0
    for name, store in place.stores(given.backend):
        letters = [letter for letter in store.letters() if is_chosen(letter)]
        if letters and (obstacle := place.obstacle(name)):
            return complain(obstacle, code=BAD_NEWS)
        left_out += sum(not letter.is_event for letter in letters)
        replayed = store.replay(is_chosen)
        total += replayed
        if replayed:
            print(
                f"{terminal.plural(replayed, 'event')} for {name}: delivered {place.when}, with the same id as before."
            )
    if left_out:
        complain(f"{terminal.plural(left_out, 'letter')} cannot be replayed: not an event", code=OK)
    return OK if total else _none(given) if not left_out else BAD_NEWS


def _purge(given: argparse.Namespace, place: Place) -> int:
    if is_everything(given) and not given.all:
        return complain("say which letters to delete: ids, --backend, --since, --match, or --all", code=NOT_TRIED)
    is_chosen = chooser(given)
    total = sum(store.purge(is_chosen) for _, store in place.stores(given.backend))
    if not total:
        return _none(given)
    print(f"{terminal.plural(total, 'letter')} deleted.")
    return OK
