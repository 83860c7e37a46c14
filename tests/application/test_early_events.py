"""Records from before `start`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest

from shipper.application.capture.pipeline import MAX_EARLY_EVENTS, EarlyEvents, active
from shipper.event.model import Event

from ..support.threads import THREADS, in_threads


class Pipeline:
    """A pipeline that only counts events and drops."""

    def __init__(self) -> None:
        self.queue = self
        self.events = 0
        self.drops: Counter[tuple[str, int]] = Counter()

    def enqueue(self, event: Event) -> None:
        self.events += 1

    def drop(self, reason: str, level: int) -> None:
        self.drops[reason, level] += 1


@pytest.fixture(autouse=True)
def nothing_has_started() -> Iterator[None]:
    before, active.pipeline = active.pipeline, None
    yield
    active.pipeline = before


def test_each_record_that_threads_log_before_the_start_is_kept_or_counted() -> None:
    early, pipeline = EarlyEvents(), Pipeline()

    def log(which: int) -> None:
        for _ in range(1000):
            early.keep(Event(level=20))

    in_threads(log)
    early.ship(cast("Any", pipeline))

    assert pipeline.events == MAX_EARLY_EVENTS
    assert pipeline.drops == {("not_started", 20): THREADS * 1000 - MAX_EARLY_EVENTS}
