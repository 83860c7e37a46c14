"""`shipper receiver` - runs the local receiver, and prints how to point an application at it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import OK

if TYPE_CHECKING:
    from ..receiver import Receiver


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "receiver",
        help="run a local stand-in for both services",
        description="Run a local stand-in for Trakerr and jKool until Ctrl-C, with a page that shows what arrived.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address of this machine to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8787, help="port to listen on, 0 for any free one (%(default)s)")
    parser.add_argument(
        "--database", default=":memory:", metavar="PATH", help="SQLite file for the events (default: in memory)"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from ..receiver import serve

    serve(given.host, given.port, given.database, ready=_introduce)
    return OK


def _introduce(receiver: Receiver) -> None:
    print(
        f"The receiver runs. Its page: {receiver.url}\n"
        "\n"
        "Point an application at it, in its environment:\n"
        "\n"
        "    export SHIPPER_TRAKERR_API_KEY=any-key\n"
        f"    export SHIPPER_TRAKERR_URL={receiver.trakerr_url}\n"
        "    export SHIPPER_JKOOL_TOKEN=any-token\n"
        f"    export SHIPPER_JKOOL_URL={receiver.jkool_url}\n"
        "\n"
        "or in its code:\n"
        "\n"
        "    shipper.start(\n"
        f'        shipper.Trakerr("any-key", url="{receiver.trakerr_url}"),\n'
        f'        shipper.JKool("any-token", url="{receiver.jkool_url}"),\n'
        "    )\n"
        "\n"
        "Ctrl-C ends it.",
        flush=True,
    )
