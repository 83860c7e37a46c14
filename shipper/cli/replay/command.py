"""`shipper replay` - sends a stretch of what was logged to one backend again, under the same ids."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, NOT_TRIED, complain
from ..dead.selection import moment
from ..status.command import add_selection

if TYPE_CHECKING:
    from ..status.find import Found


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "replay",
        help="send a stretch of what was logged to one backend again",
        description="Send what was logged in a time to one backend again, under the same ids: after a service lost "
        "events, or was configured wrongly. The shipper process delivers them, while it runs or when it is started "
        "again. An event is sent again once, however often the command is repeated; one that was interrupted goes on. "
        "What was delivered goes back as far as spooling.keep (SHIPPER_SPOOLING_KEEP) keeps it.",
        epilog="With --to, the backend's settings come from the environment (SHIPPER_TRAKERR_API_KEY, …) but for its "
        "URL, and the command waits until everything is delivered there. Exit code: 0 done; 1 there is no such app or "
        "backend, or something was refused; 2 wrong usage; 3 not all of it yet: repeat the command; 130 stopped by "
        "Ctrl-C: repeat it too.",
        examples="""
            shipper replay --since 2026-11-29T14:00 --until 2026-11-29T15:30 --backend jkool --dry-run
            shipper replay --since 2026-11-29T14:00 --until 2026-11-29T15:30 --backend jkool
            shipper replay --since 2h --backend trakerr --to https://trakerr.example.com/api/v1
        """,
    )
    add_selection(parser)
    when = "10m, 2h, 3d, or 2026-11-29T14:00"
    parser.add_argument("--since", type=moment, required=True, metavar="WHEN", help=f"events from this time on: {when}")
    parser.add_argument(
        "--until", type=moment, default=math.inf, metavar="WHEN", help="events before this time (default: up to now)"
    )
    parser.add_argument("--backend", required=True, metavar="NAME", help="the backend that gets them")
    parser.add_argument("--to", metavar="URL", help="another address of that backend's kind, in place of its own")
    parser.add_argument("--again", action="store_true", help="also events that this command has sent there before")
    parser.add_argument("--dry-run", action="store_true", help="only count them")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from ...delivery.replay.replay import ReplayError
    from ..status.find import NoSuchApp, as_user, find

    if given.since >= given.until:
        return complain("--since is not before --until", code=NOT_TRIED)
    try:
        found = find(given.app, given.spool)
        if len(found) > 1:
            names = ", ".join(dict.fromkeys(each.app for each in found))
            return complain(f"there are several apps, choose one with --app: {names}", code=NOT_TRIED)
        return as_user(found[0].uid, lambda: _replay(given, found[0]))
    except (NoSuchApp, ReplayError) as error:
        return complain(str(error), code=BAD_NEWS)


def _replay(given: argparse.Namespace, app: Found) -> int:
    from .elsewhere import replay_elsewhere
    from .own import replay_here

    return replay_elsewhere(given, app) if given.to else replay_here(given, app)
