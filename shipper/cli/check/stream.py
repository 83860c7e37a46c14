"""Probes of a stream: connection, credentials, the streams, their replicas and limits, and the consumers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import DeliveryError, UnauthorisedError
from .result import Result, error, ok, warning

if TYPE_CHECKING:
    from ...stream.client import Client

INIT = "Run `shipper stream init`."


def check_stream(settings: Any) -> Iterator[Result]:
    """Connect to the servers and check the streams. ``settings``: a `shipper.JetStream`."""
    from ..servers import connected

    began = time.monotonic()
    try:
        with connected(settings, "check") as client:
            yield from _probe(client, settings, began)
    except UnauthorisedError as problem:
        yield error(
            settings.name, problem.reason, "Check user and password, the credentials, and the account's rights."
        )
    except DeliveryError as problem:
        yield error(settings.name, problem.reason, "Check the servers' addresses, firewalls, and certificates.")


def _probe(client: Client, settings: Any, began: float) -> Iterator[Result]:
    from ...stream import streams
    from ...stream.publisher import missing_consumers

    info = streams.stream_info(client, settings.stream)
    yield ok(settings.name, f"connected and answered in {(time.monotonic() - began) * 1000:.0f} ms")
    if info is None:
        if settings.create:
            yield ok(settings.name, f"there is no stream {settings.stream} yet: the first publisher makes it")
        else:
            yield error(settings.name, f"there is no stream {settings.stream}", INIT)
        return
    replicas = info["config"].get("num_replicas", 1)
    yield ok(settings.name, f"stream {settings.stream}, {replicas} replicas, {info['state']['messages']} messages")
    for text in streams.faults(info["config"], streams.events_stream(settings), settings):
        yield warning(settings.name, f"the stream {settings.stream} {text}", "Change it, or make it again.")
    problem = missing_consumers(client, settings, info)
    if problem is not None:
        yield error(settings.name, problem.reason, "Until then the events wait in the journal.")
    with contextlib.suppress(DeliveryError):  # a publisher's account need not see it
        if streams.stream_info(client, settings.dead_stream) is None:
            yield warning(settings.name, f"there is no stream {settings.dead_stream}: relays do not start", INIT)
