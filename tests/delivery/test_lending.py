"""Another process encodes the requests of a long backlog; the deliverer sends them, and the cursor passes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.delivery.deliverer import Deliverer
from shipper.delivery.lending.lending import LONGEST_SECONDS, Lending
from shipper.journal.segments import segments

from ..support.model import ALL_AT_ONCE, ModelBackend, ModelEncoder, World


class Backlog:
    """A world whose backend "many" takes three events a request; another process encodes for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.backend: ModelBackend = world.backends["many"]
        self.log(60)
        world.encode_elsewhere("many")

    def log(self, count: int, *, size: int = 10, level: int = 20, bad: bool = False, frames: int = ALL_AT_ONCE) -> None:
        application = self.world.applications[0]
        for _ in range(count):
            self.world.log(application, level, size, bad=bad, route=None)
            self.world.put(application, frames)
            self.world.take(ALL_AT_ONCE)

    @property
    def deliverer(self) -> Deliverer:
        return self.world.deliverers["many"]

    @property
    def lending(self) -> Lending:
        lending = self.deliverer._lending
        assert lending is not None
        return lending

    def is_lent(self) -> bool:
        return self.lending.is_on

    @property
    def encoder(self) -> ModelEncoder:
        return self.world.encoders["many"]

    def begin(self) -> None:
        """Deliver once, so that there is a backlog that can be lent."""
        self.deliver()
        assert self.deliverer.has_backlog

    def deliver(self, rounds: int = 1, answer: str = "accepts") -> None:
        for _ in range(rounds):
            self.world.deliver("many", answer)
            self.world.check()

    def deliver_all(self) -> None:
        for _ in range(100):
            self.deliver()
            self.world.pass_time(1.0)
        assert not self.world._left(self.backend)[0]

    @property
    def got(self) -> int:
        return sum(self.backend.got.values())


@pytest.fixture
def backlog(tmp_path: Path) -> Iterator[Backlog]:
    world = World(tmp_path, quota=60_000, when_full="oldest")
    yield Backlog(world)
    world.close()


def test_every_event_is_delivered_once_and_counted(backlog: Backlog) -> None:
    backlog.deliver_all()

    assert backlog.backend.lent > 0
    assert set(backlog.backend.got.values()) == {1}
    assert backlog.got == backlog.deliverer.progress.counts["delivered"] == 60


def test_one_backlog_after_another_is_lent(backlog: Backlog) -> None:
    backlog.deliver_all()
    lent = backlog.backend.lent
    backlog.log(30)

    backlog.deliver_all()

    assert backlog.backend.lent > lent
    assert set(backlog.backend.got.values()) == {1}


def test_a_refused_request_is_judged_by_the_deliverer(backlog: Backlog) -> None:
    backlog.log(1, bad=True)
    backlog.log(20)
    for _ in range(100):
        backlog.deliver(answer="refuses bad events")
        backlog.world.pass_time(1.0)

    assert backlog.deliverer.progress.counts == {"delivered": 80, "dead": 1}
    assert set(backlog.backend.got.values()) == {1}


def test_an_outage_ends_it_and_is_waited_out_by_the_deliverer(backlog: Backlog) -> None:
    backlog.begin()
    backlog.deliver(answer="is down")

    assert not backlog.is_lent()
    assert backlog.deliverer.health.last_error == "HTTP 503"
    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}


@pytest.mark.parametrize("when", ["before it is lent", "while it is lent"])
def test_a_killed_process_costs_nothing(backlog: Backlog, when: str) -> None:
    backlog.begin()
    if when == "while it is lent":
        backlog.deliver()
        assert backlog.is_lent()
    backlog.encoder.is_killed = True

    backlog.deliver()

    assert backlog.lending.borrower is None, "it is not asked again"
    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}


def test_a_process_that_answers_no_more_is_given_up(backlog: Backlog, monkeypatch: pytest.MonkeyPatch) -> None:
    backlog.log(30)
    backlog.begin()
    backlog.deliver()
    monkeypatch.setattr(backlog.encoder, "next", lambda seconds: None)
    backlog.deliver(3)
    assert backlog.is_lent()

    backlog.world.pass_time(LONGEST_SECONDS + 1)
    backlog.deliver()

    assert backlog.lending.borrower is None
    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}


def test_a_request_that_does_not_fit_into_memory_is_encoded_here(
    backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog.begin()
    backlog.deliver()
    assert backlog.is_lent()

    def next_request(seconds: float) -> None:
        raise MemoryError

    monkeypatch.setattr(backlog.encoder, "next", next_request)

    backlog.deliver()

    assert backlog.lending.borrower is None
    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}


def test_half_an_event_is_waited_for_by_the_deliverer(backlog: Backlog) -> None:
    backlog.log(1, size=14_000, frames=1)
    other = backlog.world.applications[1]
    for _ in range(20):
        backlog.world.log(other, 20, 10, bad=False, route=None)
        backlog.world.put(other, ALL_AT_ONCE)
        backlog.world.take(ALL_AT_ONCE)
    backlog.deliver(20)
    assert backlog.backend.lent > 0

    backlog.world.put(backlog.world.applications[0], ALL_AT_ONCE)
    backlog.world.take(ALL_AT_ONCE)
    backlog.deliver_all()

    assert set(backlog.backend.got.values()) == {1}
    assert backlog.got == 81


def test_a_pause_takes_it_back(backlog: Backlog) -> None:
    backlog.begin()
    backlog.deliver()
    assert backlog.deliverer.has_backlog
    got = backlog.got
    backlog.deliverer.stopping.set()  # so that a pause is not waited for here
    backlog.deliverer.pause.since = 1.0
    backlog.deliver()

    assert not backlog.is_lent()
    assert backlog.got == got
    backlog.deliverer.stopping.clear()
    backlog.deliverer.pause.since = None
    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}


def test_what_the_quota_gives_up_is_sent_no_more(backlog: Backlog) -> None:
    """Events that are given up while their request is under way are counted once."""
    backlog.log(60, size=500)
    backlog.begin()
    backlog.deliver()
    assert backlog.is_lent()
    newest = segments(backlog.world.spool.journal)[-1]

    backlog.world.deliver("many", "accepts", lambda: backlog.deliverer.give_up_before(newest))
    backlog.world.check()

    assert not backlog.is_lent()
    backlog.deliver_all()
    assert backlog.deliverer.progress.counts["quota"] > 0
    assert sum(backlog.deliverer.progress.counts.values()) == 120


def test_what_was_accepted_beside_events_that_the_quota_gave_up_is_not_sent_again(backlog: Backlog) -> None:
    """A request has events of two segments, and only those of the first are given up while it is under way."""
    backlog.log(80, size=500)
    given_up = 0

    def give_up() -> None:
        nonlocal given_up
        request = backlog.encoder.given
        if (
            backlog.is_lent()
            and request is not None
            and request.end.offset
            and request.end.segment > request.start.segment
        ):
            given_up += 1
            backlog.deliverer.give_up_before(request.end.segment)

    while backlog.world._left(backlog.backend)[0]:
        backlog.world.deliver("many", "accepts", give_up)
        backlog.world.check()

    assert given_up > 0
    assert backlog.deliverer.progress.counts["quota"] > 0
    assert set(backlog.backend.got.values()) == {1}
    assert sum(backlog.deliverer.progress.counts.values()) == backlog.world.journaled


def test_errors_overtake_what_is_lent(backlog: Backlog) -> None:
    backlog.log(60, size=500)
    backlog.deliver()
    backlog.world.pass_time(0.6)
    backlog.deliver()
    backlog.log(1, level=40)
    error = max(backlog.world.sent)

    while not backlog.backend.got[error]:
        assert backlog.is_lent()
        backlog.deliver()

    assert backlog.world._left(backlog.backend)[0], "the backlog is still there"
    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}


def test_a_restart_goes_on_behind_the_last_request(backlog: Backlog) -> None:
    backlog.begin()
    backlog.deliver()
    assert backlog.deliverer.has_backlog

    backlog.world.restart()

    backlog.deliver_all()
    assert set(backlog.backend.got.values()) == {1}
