"""`some-program 2>&1 | shipper pipe` - ships each line, and does not slow the program down.

Two processes. The one that is started only takes in (`intake.py`): it moves its input into files, like a `cat`. Its
child ships from these files (`shipping.py`).
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from .. import NOT_TRIED, complain

FOLDER = "pipe"  # in the spool: a spill for each `shipper pipe`


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "pipe",
        help="ship each line of a program's output",
        description="Ship each line of standard input as one event to the services that the environment names "
        "(SHIPPER_TRAKERR_API_KEY, SHIPPER_JKOOL_TOKEN, and any other SHIPPER_ setting), without slowing down the "
        "program that writes them: lines that cannot be shipped at once wait in the spool, at most 1 GiB of them. "
        "End of input, SIGTERM and Ctrl-C ship what was read. After a second signal, or a kill, the next "
        "`shipper pipe` with the same settings ships it.",
        epilog="Exit code: 0 every line is in the journal, from which it is delivered; 1 some are not; "
        "2 not tried; 130 ended by a second signal.",
        examples="""
            some-program 2>&1 | shipper pipe --level INFO
            node server.js | shipper pipe --json --logger web
            make 2>&1 | shipper pipe --tee | less
        """,
    )
    parser.add_argument(
        "--level", default="INFO", help="the level of lines that do not have one, a name or a number (%(default)s)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="parse lines that are JSON objects: the usual keys for message, level, time, logger and traceback "
        "are recognised, all others become fields of the event; other lines are shipped as text",
    )
    parser.add_argument(
        "--logger",
        default="shipper.pipe",
        metavar="NAME",
        help="the logger of lines that do not have one (%(default)s)",
    )
    parser.add_argument(
        "--tee",
        action="store_true",
        help="pass all of it on to stdout, unchanged; the program then waits for who reads that",
    )
    parser.add_argument("--app", metavar="NAME", help="ship as this app (default: named after the services)")
    parser.add_argument("--spool", metavar="PATH", help="the app's folder, when that is not in the default place")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from ...transport.pipe import grow_pipe

    try:
        os.fstat(0)
    except OSError as error:
        return complain(f"standard input: {error.strerror}", code=NOT_TRIED)
    grow_pipe(0)  # first of all: the program can go on writing while this command gets ready

    from ...spool.layout import Spool
    from ...spool.lock import claim
    from ..starting import level_from, settings_for
    from .intake import Intake
    from .spill import Spill

    level = level_from(given.level)
    settings = settings_for(given.app, given.spool)
    spool = Spool(settings.spool)
    spool.prepare()
    claim(spool, settings.app)
    folder = os.path.join(spool.path, FOLDER)
    try:
        spill = Spill.create(folder, {"level": level, "logger": given.logger, "is_json": given.json})
    except OSError as error:
        return complain(f"{folder}: {error.strerror}", code=NOT_TRIED)

    def ship(news: int) -> int:
        from .shipping import Shipping  # only the child needs it

        return Shipping(settings, folder, spill, news).run()

    return Intake(spill, ship, tee=given.tee).run()
