"""The backend for JetStream: publishes batches of events as messages, in the shipper process.

Invariants: an event counts as delivered after the stream has acknowledged its message. Nothing is published while
consumers that are configured are missing: a stream with interest retention acknowledges, and drops, what nobody
consumes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..backends.jetstream import JetStream
from ..backends.protocol import AppContext
from ..errors import DeliveryError, RetryableError, TooLargeError, UnauthorisedError
from ..event.model import Event, Origin
from .message import HEADROOM, MAX_MESSAGE, Message, messages

if TYPE_CHECKING:
    from .client import Client

CHECK_SECONDS = 10.0  # between two looks whether the consumers are still there
NOTICE_SECONDS = 0.5  # between two checks while there is an obstacle

Answers = Sequence["DeliveryError | None"]


class Publisher:
    """The backend that `JetStream` describes. `send` may be called by several threads."""

    def __init__(self, settings: JetStream, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = settings.name
        self.level = settings.level
        self.max_events = settings.max_events
        self.max_in_flight = settings.max_in_flight
        self.initial_in_flight = settings.initial_in_flight
        self._settings = settings
        self._clock = clock
        self._client: Client | None = None
        self._context: AppContext | None = None
        self._obstacle: DeliveryError | None = RetryableError("not opened yet")
        self._checked_at = float("-inf")

    def open(self, context: AppContext) -> None:
        """Begin to connect. Raises nothing: `send` returns what is wrong."""
        self._context = context
        try:
            from .client import Client  # nats-py, in the shipper process only

            self._client = Client(self._settings, name=f"shipper {context.app}")
        except Exception as error:  # nats-py is missing in this interpreter, or a certificate can't be read
            self._obstacle = UnauthorisedError(f"no way to {self._settings.endpoint}: {error}")

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def send(self, events: Sequence[Event]) -> Answers:
        return self.encode(events)() if events else []

    def encode(self, events: Sequence[Event]) -> Callable[[], Answers]:
        """Make the messages; calling what this returns publishes them."""
        client, context = self._client, self._context
        if client is None or context is None:
            return lambda: [self._obstacle] * len(events)
        for event in events:
            if event.route is not None:  # it named this backend; relays deliver the event to all of theirs
                event.route = None
        origin = events[0].origin  # set in a relay that publishes to another stream; its batches are of one origin
        if origin is None:
            load = context.load(events[-1].time)
            origin = Origin(context.app, context.host, context.address, context.cwd, load)
        most = max(min(MAX_MESSAGE, client.max_payload - HEADROOM), 1)
        make = functools.partial(messages, prefix=self._settings.subject, origin=origin)
        made = list(make(events, max_bytes=most))
        return lambda: self._find_obstacle_or(len(events)) or self._publish(client, events, made, make)

    def _find_obstacle_or(self, count: int) -> Answers:
        obstacle = self._find_obstacle()
        return [] if obstacle is None else [obstacle] * count

    def _publish(
        self, client: Client, events: Sequence[Event], made: Sequence[Message], make: Callable[..., Iterable[Message]]
    ) -> Answers:
        from .api import outcome

        replies = client.request_all([(each.subject, each.content, each.headers) for each in made])
        answers: list[DeliveryError | None] = [None] * len(events)
        for message, reply in zip(made, replies, strict=True):
            answer = outcome(reply, self._settings.stream)
            first, stop = message.places.start, message.places.stop
            if isinstance(answer, TooLargeError) and len(message.places) > 1:
                part = events[first:stop]
                halves = list(make(part, max_bytes=max(len(message.content) // 2, 1)))
                answers[first:stop] = self._publish(client, part, halves, make)
            else:
                answers[first:stop] = [answer] * len(message.places)
        return answers

    # -- what has to be there ------------------------------------------------------------------------------------------

    def _find_obstacle(self) -> DeliveryError | None:
        """Return why nothing may be published now, or None; checked from time to time."""
        pause = CHECK_SECONDS if self._obstacle is None else NOTICE_SECONDS
        if self._client is None or self._clock() - self._checked_at < pause:
            return self._obstacle
        try:
            self._obstacle = self._look(self._client)
        except DeliveryError as error:
            # No answer: if nothing was missing at the last check, go on. With servers down, publishing fails by itself.
            self._obstacle = None if self._obstacle is None else error
        self._checked_at = self._clock()
        return self._obstacle

    def _look(self, client: Client) -> DeliveryError | None:
        from .api import NO_STREAM, ApiError, call

        settings = self._settings
        try:
            info = call(client, f"STREAM.INFO.{settings.stream}")
        except ApiError as error:
            if error.code != NO_STREAM:
                raise
            if not settings.create:
                what = f"there is no stream {settings.stream}: `shipper stream init` makes it"
                return RetryableError(what, status=503)
            from .streams import create_streams

            info = create_streams(client, settings)
        return missing_consumers(client, settings, info)


def missing_consumers(client: Client, settings: JetStream, info: dict[str, Any]) -> RetryableError | None:
    """Return an error while consumers are missing without which the stream would drop what is published."""
    from .api import call

    is_kept = info.get("config", {}).get("retention") == "limits"
    if is_kept and not settings.durables:
        return None
    there = set(call(client, f"CONSUMER.NAMES.{settings.stream}", {"offset": 0}).get("consumers") or ())
    missing = sorted(set(settings.durables) - there)
    if missing:
        what = f"the consumers {', '.join(missing)} of the stream {settings.stream} do not exist yet"
        return RetryableError(f"{what}: start a relay, or `shipper stream init`", status=503)
    if not there and not is_kept:
        what = f"the stream {settings.stream} has no consumer yet, and would drop what is published"
        return RetryableError(f"{what}: start a relay, or `shipper stream init`", status=503)
    return None
