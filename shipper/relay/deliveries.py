"""The deliverers of a relay: for each backend a durable consumer, a cursor, and the same deliverer as in an app."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..backends.deprecated import is_http_backend
from ..backends.exporter import described
from ..backends.jetstream import JetStream
from ..backends.protocol import AppContext
from ..config.settings import Settings
from ..delivery.blame.crash_guard import CrashGuard, Encoder
from ..delivery.deliverer import Deliverer
from ..errors import DeliveryError
from ..process.deliveries import address_of, backend_of
from ..process.status.crashes import Crashes
from ..process.threads import Threads
from ..spool.layout import Spool
from ..stream.client import Client
from ..stream.cursor import StreamCursor
from ..stream.feed import Feed
from ..stream.streams import consumer, consumer_info, create_consumer, durable_name, stream_info
from .dead_letters import StreamDeadLetters
from .origins import ByOrigin

MIN_HELD = 4  # messages of a backend that a relay may hold in any case
SHARES = 4  # a relay may hold 1 / SHARES of the messages that all relays of a backend may hold
_WAITING = ("retrying", "unauthorised", "refused")

_log = logging.getLogger("shipper.process")


@dataclass(frozen=True)
class Consuming:
    """Which consumers a relay uses. A limit of None: the consumer's own, or the default of `streams.consumer`."""

    durable: str = "relay"
    ack_wait: float | None = None
    max_ack_pending: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The limits that are given."""
        limits = {"ack_wait": self.ack_wait, "max_ack_pending": self.max_ack_pending}
        return {name: value for name, value in limits.items() if value is not None}


@dataclass(frozen=True)
class Delivery:
    """One backend of the relay."""

    feed: Feed
    cursor: StreamCursor
    deliverer: Deliverer
    backend: Any
    url: str

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.deliverer.name

    @property
    def left(self) -> int:
        """Events in hand plus messages in the stream: a lower bound of the events left."""
        return self.cursor.left + self.feed.pending

    @property
    def is_waiting(self) -> bool:
        """Whether the backend takes nothing for now."""
        return self.deliverer.health.state in _WAITING


class Deliveries:
    """Used by the main thread. Backends whose consumer is not available yet are opened by a later `open_missing`."""

    def __init__(
        self,
        settings: Settings,
        stream: JetStream,
        consuming: Consuming,
        client: Client,
        *,
        spool: Spool,
        context: AppContext,
        crashes: Crashes,
        on_settled: Callable[[], None],
    ) -> None:
        self.trouble = ""
        """Why a backend is not open yet; "" when all are."""
        self._settings = settings
        self._stream = stream
        self._consuming = consuming
        self._client = client
        self._spool = spool
        self._context = context
        self._on_settled = on_settled
        self._threads = Threads(crashes, encode=True)
        self._open: dict[str, Delivery] = {}

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self._open.values()))  # `list` copies in one step, also without a GIL

    @property
    def settled(self) -> int:
        """How many events are settled, at all backends together."""
        return sum(each.deliverer.progress.settled for each in self)

    @property
    def missing(self) -> list[str]:
        """The backends that are not open yet."""
        return [each.name for each in self._settings.backends if each.name not in self._open]

    def open_missing(self) -> None:
        """Begin to deliver to the backends that are not open yet, if their consumers are available."""
        self.trouble = ""
        for description in self._settings.backends:
            if description.name not in self._open:
                try:
                    self._open[description.name] = self._begin(description, self._consumer(description.name))
                except DeliveryError as error:
                    self._note(error.reason)
                    if not self._client.is_up:
                        return  # the others would fail too, each after as long a wait

    def _note(self, trouble: str) -> None:
        self.trouble = trouble
        _log.warning("%s", trouble)

    def _consumer(self, backend: str) -> dict[str, Any]:
        """Return the consumer's configuration; make or change it if necessary. DeliveryError when that fails."""
        stream, durable = self._stream, durable_name(self._consuming.durable, backend)
        for name in (stream.dead_stream, stream.stream):
            if stream_info(self._client, name) is None:
                raise DeliveryError(f"there is no stream {name}: `shipper stream init` makes it")
        found = consumer_info(self._client, stream.stream, durable)
        wanted = consumer(durable, **self._consuming.given)
        is_other = found is not None and any(found["config"].get(key) != wanted[key] for key in self._consuming.given)
        if found is None or is_other:
            found = create_consumer(self._client, stream.stream, wanted)
            _log.info("made the consumer %s of the stream %s", durable, stream.stream)
        config: dict[str, Any] = found["config"]
        return config

    def _begin(self, description: Any, config: dict[str, Any]) -> Delivery:
        requests = described(description)
        backend = ByOrigin(description) if is_http_backend(requests) else backend_of(requests)
        backend.open(self._context)
        feed = Feed(self._client, self._stream.stream, config["durable_name"], ack_wait=config["ack_wait"] / 1e9)
        limit = max(MIN_HELD, config.get("max_ack_pending", 0) // SHARES)
        cursor = StreamCursor(feed, level=backend.level, limit=limit)
        notes = os.path.join(self._spool.cursors, f"{backend.name}.encoding")
        deliverer = Deliverer(
            cursor,
            CrashGuard(backend, notes) if isinstance(backend, Encoder) else backend,
            StreamDeadLetters(self._client, self._stream, backend.name),
            batching=self._settings.batching,
            retry=self._settings.retry,
            on_settled=self._on_settled,
            collect_seconds=0.0,
        )
        cursor.on_arrival = deliverer.wake.set
        feed.cursor = cursor
        self._threads.start(backend.name, deliverer.run)
        feed.start()
        return Delivery(feed, cursor, deliverer, backend, address_of(requests))

    # -- the end -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Ask for no more messages, and deliver those in hand as soon as possible."""
        for each in self:
            each.feed.stop()
            each.deliverer.set_drain_mode(True, final_to=None)

    @property
    def is_drained(self) -> bool:
        """Whether every backend has settled what is in hand, or takes nothing now: the rest is for other relays."""
        return all(each.deliverer.drained.is_set() or each.is_waiting for each in self)

    def stop(self, seconds: float) -> None:
        """End all deliverers, and wait for the requests under way. What is not settled is given back."""
        deadline = time.monotonic() + seconds
        for each in self:
            each.feed.stop()
            each.deliverer.stop()
        self._threads.join(max(0.0, deadline - time.monotonic()))
        for each in self:
            each.feed.end(max(0.0, deadline - time.monotonic()))
            each.cursor.close()
            each.backend.close()
