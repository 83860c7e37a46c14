"""`shipper relay` - delivers what applications have published to a stream."""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, Any

from . import NOT_TRIED, OK, complain
from .parsing import number_of_seconds
from .servers import add_servers, stream_settings

if TYPE_CHECKING:
    from ..relay.deliveries import Consuming
    from ..relay.service import Relay

NAME = "relay"
NO_SERVICE = """\
no service is named. A relay has its backends from the environment only; set the variables of one or more:
    export SHIPPER_OTLP_ENDPOINT=...      a collector, such as http://localhost:4318
    export SHIPPER_TRAKERR_API_KEY=...    Trakerr: the API key of the project
    export SHIPPER_JKOOL_TOKEN=...        jKool: the access token of the repository"""
MAX_RELAYS = 100  # on one machine, with names of their own


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "relay",
        help="deliver the events of a JetStream stream",
        description="Deliver what applications have published to a stream of NATS JetStream, to the services that the "
        "environment names (SHIPPER_TRAKERR_API_KEY, SHIPPER_OTLP_ENDPOINT, and any other SHIPPER_ setting). Any "
        "number of relays on any machines share the work: those with the same --durable. SIGTERM ends it: it delivers "
        "what it has in hand, and gives the rest back.",
        epilog="Exit code: 0 ended by a signal; 2 a wrong setting, or another relay runs under this name.",
        examples="""
            shipper relay --servers nats://a:4222,nats://b:4222
            shipper status --app relay
        """,
    )
    add_servers(parser)
    parser.add_argument(
        "--durable",
        type=_name,
        default="relay",
        metavar="NAME",
        help="each backend's consumer is NAME-<backend> (%(default)s)",
    )
    parser.add_argument(
        "--ack-wait",
        type=number_of_seconds(1, 3600),
        metavar="S",
        help="after so many seconds another relay takes over a dead one's (30)",
    )
    parser.add_argument(
        "--max-ack-pending", type=_count, metavar="N", help="messages that all relays may have in hand together (64)"
    )
    parser.add_argument("--app", metavar="NAME", help="the relay's name for `shipper status` (relay, relay-2, ...)")
    parser.add_argument("--spool", metavar="PATH", help="the relay's folder, when that is not in the default place")
    parser.set_defaults(run=run)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 64 letters, digits, dashes or underscores")
    return text


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100000")
    return int(text)


def run(given: argparse.Namespace) -> int:
    from ..config.environment import UnconfiguredError
    from ..relay.deliveries import Consuming

    consuming = Consuming(given.durable, given.ack_wait, given.max_ack_pending)
    try:
        relay = _relay(given, consuming)
    except UnconfiguredError as error:
        return complain("\n".join([NO_SERVICE, *error.hints]), code=NOT_TRIED)
    except BlockingIOError:
        return complain("another relay runs in this folder: give another name with --app", code=NOT_TRIED)
    relay.run()
    return OK


def _relay(given: argparse.Namespace, consuming: Consuming) -> Relay:
    """The relay under the name that is given, or under the first one that is free. BlockingIOError."""
    from ..config.environment import resolve
    from ..relay.service import Relay

    stream = stream_settings(given)
    named = given.app or os.environ.get("SHIPPER_APP")
    is_chosen = named or given.spool or os.environ.get("SHIPPER_SPOOL")
    names = [named or NAME] if is_chosen else [NAME, *(f"{NAME}-{number}" for number in range(2, MAX_RELAYS))]
    for name in names:
        settings = resolve((), {"app": name, "spool": given.spool})
        try:
            return Relay(settings, stream, consuming)
        except BlockingIOError:
            continue
    raise BlockingIOError
