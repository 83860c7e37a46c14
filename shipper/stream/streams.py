"""Streams and consumers: their configuration, making them, and finding faults in existing ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from ..backends.jetstream import JetStream
from ..errors import RetryableError, UnauthorisedError
from .api import NO_CONSUMER, NO_PEERS, NO_STREAM, ApiError, call
from .client import Client
from .connection import UNAVAILABLE

ACK_WAIT = 30.0  # seconds without a sign of life after which another relay gets a message
MAX_ACK_PENDING = 64  # messages that all relays of a backend may have in hand together
MAX_DEAD_BYTES = 1024**3
CREATE_SECONDS = 15.0  # for a cluster that elects its leaders to make a stream or a consumer
PAUSE_SECONDS = 0.2  # between two attempts
ATTEMPT_SECONDS = 3.0  # of `CREATE_SECONDS`, for one answer
_NANOSECONDS = 1_000_000_000

Config = dict[str, Any]
T = TypeVar("T")


def events_stream(settings: JetStream) -> Config:
    """The stream of events: it keeps a message until every consumer has acknowledged it; full, it refuses new ones."""
    return {
        "name": settings.stream,
        "description": "events of applications, published by shipper",
        "subjects": [f"{settings.subject}.>"],
        "retention": "interest",
        "storage": "file",
        "discard": "new",
        "max_bytes": settings.max_bytes,
        "num_replicas": settings.replicas,
        "duplicate_window": int(settings.window * _NANOSECONDS),
    }


def dead_stream(settings: JetStream) -> Config:
    """The stream of dead letters: it keeps one message per subject, so one letter for each event and backend."""
    return {
        "name": settings.dead_stream,
        "description": "events that a backend has rejected, see `shipper dead --servers`",
        "subjects": [f"{settings.dead_subject}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_bytes": min(MAX_DEAD_BYTES, settings.max_bytes),
        "max_msgs_per_subject": 1,
        "num_replicas": settings.replicas,
    }


def consumer(durable: str, *, ack_wait: float = ACK_WAIT, max_ack_pending: int = MAX_ACK_PENDING) -> Config:
    """The durable consumer that all relays of one backend share."""
    return {
        "durable_name": durable,
        "description": "shared by all relays of one backend",
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * _NANOSECONDS),
        "max_deliver": -1,
        "max_ack_pending": max_ack_pending,
    }


def durable_name(durable: str, backend: str) -> str:
    """The name of the consumer of one backend."""
    return f"{durable}-{backend.replace('.', '_')}"  # a consumer's name has no dots


def delete_consumer(client: Client, stream: str, durable: str) -> None:
    """Delete a consumer: the stream keeps nothing for it any more. ApiError when there is none."""
    call(client, f"CONSUMER.DELETE.{stream}.{durable}")


def create_streams(client: Client, settings: JetStream) -> dict[str, Any]:
    """Make the missing streams, the one of dead letters first; return the state of the stream of events."""
    found: dict[str, Any] = {}
    for config in (dead_stream(settings), events_stream(settings)):
        found = find_stream(client, config["name"]) or create_stream(client, config)
    return found


def stream_info(client: Client, name: str) -> dict[str, Any] | None:
    """The state of a stream, None when there is none."""
    try:
        return call(client, f"STREAM.INFO.{name}")
    except ApiError as error:
        if error.code == NO_STREAM:
            return None
        raise


def consumer_info(client: Client, stream: str, durable: str) -> dict[str, Any] | None:
    """The state of a consumer, None when there is none."""
    try:
        return call(client, f"CONSUMER.INFO.{stream}.{durable}")
    except ApiError as error:
        if error.code in (NO_CONSUMER, NO_STREAM):
            return None
        raise


def create_consumer(client: Client, stream: str, config: Config) -> dict[str, Any]:
    """Make a consumer, or change the limits of the one that is there."""
    request = {"stream_name": stream, "config": config}
    return _create(client, f"CONSUMER.DURABLE.CREATE.{stream}.{config['durable_name']}", request)


def create_stream(client: Client, config: Config) -> dict[str, Any]:
    """Make a stream."""
    return _create(client, f"STREAM.CREATE.{config['name']}", config)


def find_stream(client: Client, name: str) -> dict[str, Any] | None:
    """Return the state of a stream, None without one; wait for a cluster that is starting."""
    return _patiently(client, lambda: stream_info(client, name))


def _create(client: Client, name: str, arguments: Config) -> dict[str, Any]:
    return _patiently(client, lambda: call(client, name, arguments, timeout=ATTEMPT_SECONDS))


def _patiently(client: Client, ask: Callable[[], T]) -> T:
    """Call ``ask`` until it is answered, for up to `CREATE_SECONDS`: a new cluster has to elect leaders first.

    Making what is there already changes nothing.
    """
    deadline = time.monotonic() + CREATE_SECONDS
    while True:
        try:
            return ask()
        except RetryableError as error:
            is_refused = isinstance(error, UnauthorisedError) or (isinstance(error, ApiError) and not _is_early(error))
            if is_refused or not client.is_up or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def _is_early(error: ApiError) -> bool:
    """Whether the servers answer like this while a cluster is being put together."""
    has_silent_peers = error.code == NO_PEERS and "offline" in error.reason  # not heard of yet; other faults last
    return error.api_status == UNAVAILABLE or has_silent_peers


def consumers(client: Client, stream: str) -> list[dict[str, Any]]:
    """The states of all consumers of a stream, by name."""
    found: list[dict[str, Any]] = []
    while True:
        answer = call(client, f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        page = answer.get("consumers") or []
        found += page
        if not page or len(found) >= answer.get("total", 0):
            return sorted(found, key=lambda each: str(each.get("name")))


def faults(config: Config, wanted: Config, settings: JetStream) -> Iterator[str]:
    """Yield what is wrong with a stream, each as the end of a sentence that begins with "The stream"."""
    replicas = config.get("num_replicas", 1)
    if replicas < settings.replicas:
        yield f"has {replicas} {'replica' if replicas == 1 else 'replicas'} instead of {settings.replicas}"
    if config.get("discard") != "new":
        yield "discards old messages when it is full: what was not delivered is lost"
    if config.get("max_age"):
        yield f"discards messages after {config['max_age'] / _NANOSECONDS:g} s, delivered or not"
    if config.get("storage") != "file":
        yield "is in memory only"
    if config.get("retention") != wanted["retention"]:
        yield f"has {config.get('retention')} retention instead of {wanted['retention']}"
    if set(wanted["subjects"]) - set(config.get("subjects") or ()):
        yield f"does not take {', '.join(wanted['subjects'])}"
    window = config.get("duplicate_window", 0) / _NANOSECONDS
    if "duplicate_window" in wanted and window < settings.window:
        yield f"recognises a message that comes again for {window:g} s only"


def missing_durables(there: Sequence[str], settings: JetStream) -> list[str]:
    """The consumers that the settings name and that do not exist."""
    return sorted(set(settings.durables) - set(there))
