"""Each event of a journal or a stream is delivered, filtered or dead; only after a kill may it be sent twice."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import hypothesis.strategies as some
import pytest

from shipper.config.limits import Batching
from shipper.delivery.deliverer import Deliverer
from shipper.errors import DeliveryError, RejectedError, RetryableError
from shipper.event.model import Event, EventId

from ..support.journals import BEHIND_ALL
from ..support.logs import JournalLog, Log, StreamLog

LEVEL = 20
BATCHING = Batching(max_events=4, max_bytes=30_000, max_age=0.0)
STEPS = some.one_of(
    some.tuples(
        some.just("log"), some.lists(some.tuples(some.sampled_from((10, 20, 40)), some.booleans()), max_size=5)
    ),
    some.tuples(some.just("deliver"), some.sampled_from(("accepts", "is down", "refuses bad", "takes some"))),
    some.tuples(some.sampled_from(("kill", "turn")), some.none()),
)


class Letters:
    """Dead letters in memory."""

    def __init__(self) -> None:
        self.ids: set[EventId] = set()

    def write(self, id: EventId, event: Event | bytes, error: DeliveryError) -> None:
        self.ids.add(id)


class Service:
    """A backend whose ``answer`` the test sets."""

    name, level, max_events, max_in_flight = "service", LEVEL, 3, 1

    def __init__(self) -> None:
        self.answer = "accepts"
        self.got: Counter[EventId] = Counter()

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        answers = [self._answer(number, each) for number, each in enumerate(events)]
        self.got.update(each.id for each, answer in zip(events, answers, strict=True) if answer is None and each.id)
        return answers

    def _answer(self, number: int, event: Event) -> DeliveryError | None:
        if self.answer == "refuses bad" and "bad" in event.message:
            return RejectedError("bad", status=400)
        is_taken = self.answer in ("accepts", "refuses bad") or (self.answer == "takes some" and number % 2 == 0)
        return None if is_taken else RetryableError("down", status=503)


class World:
    """One log, one service, and a process that delivers from one to the other."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.service = Service()
        self.letters = Letters()
        self.logged: dict[EventId, int] = {}  # the level of each logged event
        self.again: set[EventId] = set()  # events that may be sent again after a kill
        self.was_killed = False
        self.now = 1000.0
        self.start()

    def start(self) -> None:
        self.cursor = self.log.open(level=LEVEL)
        self.deliverer = Deliverer(
            self.cursor, self.service, self.letters, batching=BATCHING, clock=lambda: self.now, collect_seconds=0.0
        )

    def do(self, step: str, how: object) -> None:
        if step == "log":
            assert isinstance(how, list)
            self._log(how)
        elif step == "deliver":
            self._deliver(str(how))
        elif step == "kill":
            self.again |= set(self.service.got)
            self.was_killed = True
            self.start()
        else:
            self.log.turn()

    def _log(self, made: Sequence[tuple[int, bool]]) -> None:
        events = []
        for level, is_large in made:
            id = EventId(b"tokentok", len(self.logged))
            text = "bad" if len(self.logged) % 5 == 3 else "good"
            self.logged[id] = level
            events.append(Event(time=1.7e9, level=level, message=text * (3000 if is_large else 1), id=id))
        self.log.append(events)

    def _deliver(self, answer: str) -> None:
        self.service.answer = answer
        self.deliverer.wake.set()
        self.deliverer.deliver_once()
        self.now += 1.0

    def finish(self) -> None:
        self.deliverer.set_drain_mode(True, final_to=BEHIND_ALL)
        for _ in range(1000):
            self._deliver("accepts")
            if self.deliverer.drained.is_set() and self.log.is_empty:
                return
        raise AssertionError("it is never drained")

    def check(self) -> None:
        wanted = {id for id, level in self.logged.items() if level >= LEVEL}
        assert set(self.service.got) | self.letters.ids == wanted
        assert {id for id, times in self.service.got.items() if times > 1} <= self.again
        if not self.was_killed:  # a stream's cursor counts from zero in each process
            assert sum(self.deliverer.progress.counts.values()) == len(self.logged)
            assert self.deliverer.progress.counts.get("filtered", 0) == len(self.logged) - len(wanted)


def journal() -> Log:
    return JournalLog(Path(tempfile.mkdtemp(dir=Path(tempfile.gettempdir()) / "spools")))


@pytest.mark.parametrize("make", [journal, StreamLog])
@hypothesis.settings(max_examples=150)
@hypothesis.given(steps=some.lists(STEPS, max_size=25))
def test_every_event_ends_once_whatever_the_service_and_the_process_do(
    make: Callable[[], Log], steps: list[tuple[str, object]]
) -> None:
    world = World(make())

    for step, how in steps:
        world.do(step, how)
    world.finish()

    world.check()
    world.cursor.close()
