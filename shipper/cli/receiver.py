"""`shipper receiver` - runs the local receiver, and prints how to point an application at it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from . import OK

if TYPE_CHECKING:
    from ..receiver import Receiver


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "receiver",
        help="run a local stand-in for the services",
        description="Run a local stand-in for Trakerr, jKool and an OpenTelemetry collector until Ctrl-C, with a page "
        "that shows what arrived, how often it was tried, and what went wrong.",
        examples="""
            shipper receiver                                  it prints the variables that point at it
            shipper receiver --port 0 --database events.db    any free port; the events stay in a file
        """,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8787, help="port to listen on, 0 for any free one (%(default)s)")
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="other machines may send here, and see the page with the token of the printed link",
    )
    parser.add_argument("--token-file", metavar="PATH", help="has the token (default: a new one at each start)")
    parser.add_argument(
        "--database", default=":memory:", metavar="PATH", help="SQLite file for the events (default: in memory)"
    )
    parser.add_argument(
        "--max-size", default="512MiB", metavar="SIZE", help="about how much is kept; the oldest go (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from ..config.limits import size
    from ..receiver import serve

    serve(
        given.host,
        given.port,
        given.database,
        max_bytes=size("max_size", given.max_size, least=1),
        allow_remote=given.allow_remote,
        token=_token(given.token_file),
        ready=_introduce,
    )
    return OK


def _token(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as exc:
        raise ConfigurationError("token_file", path, f"a file that can be read ({exc})") from exc


def _introduce(receiver: Receiver) -> None:
    page = receiver.page_url
    here = page.partition("/?")[0]
    print(
        f"The receiver runs. Its page: {page}\n"
        "\n"
        "Point an application at it, in its environment:\n"
        "\n"
        "    export SHIPPER_TRAKERR_API_KEY=any-key\n"
        f"    export SHIPPER_TRAKERR_URL={here}/api/v1\n"
        "    export SHIPPER_JKOOL_TOKEN=any-token\n"
        f"    export SHIPPER_JKOOL_URL={here}\n"
        "\n"
        "or in its code:\n"
        "\n"
        "    shipper.start(\n"
        f'        shipper.Trakerr("any-key", url="{here}/api/v1"),\n'
        f'        shipper.JKool("any-token", url="{here}"),\n'
        f'        shipper.Otlp("{here}"),\n'
        "    )\n"
        "\n"
        "Ctrl-C ends it.",
        flush=True,
    )
