"""`shipper status --servers`: a stream, what waits for each of its consumers, and the relays that are running."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, OK, complain, terminal
from ..servers import connected, stream_settings

if TYPE_CHECKING:
    from ...backends.jetstream import JetStream
    from ...stream.client import Client

ANSWER_SECONDS = 0.5  # for relays to answer
DEGRADED, FAILING = 1, 2
TROUBLE_CHARACTERS = 60


def run_for_stream(given: argparse.Namespace) -> int:
    """Print the state of the stream once; with ``--check`` the exit code is its health."""
    from ...errors import DeliveryError

    settings = stream_settings(given)
    try:
        with connected(settings, "status") as client:
            found = look(client, settings)
    except DeliveryError as error:
        return complain(error.reason, code=FAILING if given.check else BAD_NEWS)
    print(json.dumps(found, indent=2) if given.json else "\n".join(_lines(found)))
    return _health(found) if given.check else OK


def look(client: Client, settings: JetStream) -> dict[str, Any]:
    """The streams, the consumers, the relays, and warnings. DeliveryError when a request fails."""
    from ..stream import look as look_at_stream

    found = look_at_stream(client, settings)
    answers = client.gather(settings.relays_subject, ANSWER_SECONDS)
    found["relays"] = sorted((json.loads(answer.data) for answer in answers if answer.data), key=_name)
    if not found["relays"]:
        found["warnings"].append("no relay answers: nothing is delivered from the stream")
    return found


def _name(relay: dict[str, Any]) -> tuple[str, int]:
    return str(relay.get("host")), int(relay.get("pid", 0))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from ..stream import lines

    yield from lines(found)
    if found["relays"]:
        yield ""
        rows = [row for relay in found["relays"] for row in _rows(relay)]
        yield from terminal.table(
            ("relay", "backend", "state", "delivered", "in hand", "dead", "last error"), rows, left=3
        )


def _rows(relay: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    age = terminal.duration(max(0.0, time.time() - relay.get("started", 0.0)))
    name = f"{relay.get('host')} pid {relay.get('pid')} ({age})"
    for backend, said in relay.get("backends", {}).items():
        counts = said.get("counts", {})
        numbers = (counts.get("delivered", 0), said.get("held", 0), counts.get("dead", 0))
        yield (
            name,
            backend,
            said.get("state", ""),
            *map(terminal.count, numbers),
            said.get("last_error", "")[:TROUBLE_CHARACTERS] or "-",
        )


def _health(found: dict[str, Any]) -> int:
    states = {said.get("state") for relay in found["relays"] for said in relay.get("backends", {}).values()}
    if not found["streams"] or not found["relays"] or states & {"unauthorised", "refused"}:
        return FAILING
    return DEGRADED if found["warnings"] or "retrying" in states else OK
