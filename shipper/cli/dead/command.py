"""`shipper dead` - lists, shows, replays and deletes dead letters: events that a backend has rejected."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, NOT_TRIED, OK, complain, terminal
from ..control.one_app import Action, with_app
from ..status.command import add_selection
from .selection import add_options, chooser, is_everything

if TYPE_CHECKING:
    from ...delivery.dead.store import DeadLetterStore, Letter
    from ..status.find import Found

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


def _add(actions: argparse._SubParsersAction[Any], name: str, run: Action, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"Dead letters: {text}.")
    add_selection(parser)
    add_options(parser)
    parser.set_defaults(run=with_app(run))
    return parser


def _stores(given: argparse.Namespace, app: Found) -> Iterator[tuple[str, DeadLetterStore]]:
    from ...delivery.dead.store import DeadLetterStore, backends_with_letters

    for name in backends_with_letters(app.spool):
        if given.backend in (None, name):
            yield name, DeadLetterStore(app.spool, name)


def _chosen(given: argparse.Namespace, app: Found) -> list[tuple[str, Letter]]:
    is_chosen = chooser(given)
    return [(name, letter) for name, store in _stores(given, app) for letter in store.letters() if is_chosen(letter)]


def _none(given: argparse.Namespace) -> int:
    what = "there is no dead letter" if is_everything(given) else "no dead letter is chosen by these options"
    return complain(what, code=OK if is_everything(given) else BAD_NEWS)


def _list(given: argparse.Namespace, app: Found) -> int:
    letters = _chosen(given, app)
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


def _show(given: argparse.Namespace, app: Found) -> int:
    letters = _chosen(given, app)
    if not letters:
        return _none(given)
    for _, letter in letters:
        print(json.dumps(letter.data, indent=2))
    return OK


def _replay(given: argparse.Namespace, app: Found) -> int:
    status = app.read()
    known = {backend.name for backend in status.backends if backend.state != "not configured"}
    is_chosen, total, left_out = chooser(given), 0, 0
    for name, store in _stores(given, app):
        letters = [letter for letter in store.letters() if is_chosen(letter)]
        if letters and name not in known:
            what = f"{name} is not configured: start the application with it first, or its events would be filtered"
            return complain(what, code=BAD_NEWS)
        left_out += sum(not letter.is_event for letter in letters)
        replayed = store.replay(is_chosen)
        total += replayed
        if replayed:
            when = "now" if status.running else "when the application is started again"
            print(f"{terminal.plural(replayed, 'event')} for {name}: delivered {when}, with the same id as before.")
    if left_out:
        complain(f"{terminal.plural(left_out, 'letter')} cannot be replayed: not an event", code=OK)
    return OK if total else _none(given) if not left_out else BAD_NEWS


def _purge(given: argparse.Namespace, app: Found) -> int:
    if is_everything(given) and not given.all:
        return complain("say which letters to delete: ids, --backend, --since, --match, or --all", code=NOT_TRIED)
    is_chosen = chooser(given)
    total = sum(store.purge(is_chosen) for _, store in _stores(given, app))
    if not total:
        return _none(given)
    print(f"{terminal.plural(total, 'letter')} deleted.")
    return OK
