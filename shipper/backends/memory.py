"""A backend that keeps events in this process, for tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from ..errors import DeliveryError
from ..event.model import Event
from .protocol import AppContext

Answers = Callable[[Event], "DeliveryError | None"]


class Memory:
    """Keeps events: ``sent`` has every event of every `send`, ``events`` those that were delivered.

    ``answers``: the result of each event, as a function of the event or as a sequence in the order of sending; None is
    "delivered", which is also the result after the end of the sequence.
    """

    def __init__(
        self,
        name: str = "memory",
        level: int = logging.NOTSET,
        answers: Answers | Iterable[DeliveryError | None] = (),
        *,
        max_events: int = 500,
        max_in_flight: int = 1,
    ) -> None:
        self.name = name
        self.level = level
        self.max_events = max_events
        self.max_in_flight = max_in_flight
        self.context: AppContext | None = None
        self.closed = False
        self.sent: list[Event] = []
        self.events: list[Event] = []
        self.batches: list[list[Event]] = []
        self._answers: Answers | list[DeliveryError | None] = answers if callable(answers) else list(answers)

    def open(self, context: AppContext) -> None:
        self.context = context

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        self.batches.append(list(events))
        self.sent.extend(events)
        answers = [self._answer(event) for event in events]
        self.events.extend(event for event, answer in zip(events, answers, strict=True) if answer is None)
        return answers

    def close(self) -> None:
        self.closed = True

    def _answer(self, event: Event) -> DeliveryError | None:
        if callable(self._answers):
            return self._answers(event)
        return self._answers.pop(0) if self._answers else None
