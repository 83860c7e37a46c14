"""A backend that refuses everything is to blame, not its events; a bad event among good ones is a dead letter."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.backends.memory import Memory
from shipper.config.limits import Batching, Retry
from shipper.delivery.blame.refusals import MAX_IN_ROW, RefusesAllError
from shipper.errors import DeliveryError, RejectedError
from shipper.event.model import Event

from ..support.waiting import wait_until
from .test_deliverer import Batches, Delivery, MakeDelivery


class Service:
    """Answers ``status`` to everything while ``gone``; otherwise 400 to the messages in ``bad``."""

    def __init__(self, *, gone: bool = False, bad: tuple[str, ...] = (), status: int = 404) -> None:
        self.gone = gone
        self.bad = bad
        self.status = status

    def __call__(self, event: Event) -> DeliveryError | None:
        if self.gone:
            return RejectedError(f"HTTP {self.status}", status=self.status)
        return RejectedError("HTTP 400", status=400) if event.message in self.bad else None


@pytest.fixture
def make(spool: Path) -> Iterator[MakeDelivery]:
    made: list[Delivery] = []

    def new(backend: Memory, **settings: object) -> Delivery:
        made.append(Delivery(spool, backend, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield new

    for each in made:
        each.close()


def names(count: int, prefix: str = "n") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.mark.parametrize("status", [400, 404, 405, 410, 415])
@pytest.mark.parametrize("max_events", [1, 500])
def test_a_backend_that_has_refused_everything_loses_no_event(make: MakeDelivery, max_events: int, status: int) -> None:
    service = Service(gone=True, status=status)
    delivery = make(Memory(answers=service, max_events=max_events), batching=Batching(max_age=0))
    delivery.log(*names(20))

    failures = [delivery.round() for _ in range(50)]

    assert all(isinstance(failure, RefusesAllError) for failure in failures[2:])
    assert delivery.letters == []
    assert delivery.counts == {}
    service.gone = False
    delivery.rounds()
    assert sorted(delivery.delivered) == sorted(names(20))
    assert delivery.counts == {"delivered": 20}
    assert delivery.letters == []


def test_after_a_good_time_a_backend_that_refuses_everything_loses_no_event(make: MakeDelivery) -> None:
    service = Service()
    delivery = make(Memory(answers=service, max_events=1))
    delivery.log(*names(30, "early "))
    delivery.rounds()

    service.gone = True
    delivery.log(*names(30))
    for _ in range(100):
        delivery.round()
    assert delivery.letters == []

    service.gone = False
    delivery.rounds()
    assert sorted(delivery.delivered) == sorted([*names(30, "early "), *names(30)])
    assert delivery.letters == []


def test_a_whole_batch_that_is_refused_is_searched_for_a_bad_event_only_until_the_backend_is_to_blame(
    make: MakeDelivery,
) -> None:
    delivery = make(Batches(lambda batch: RejectedError("HTTP 404", status=404)))
    delivery.log(*names(500))

    failure = delivery.round()

    assert isinstance(failure, RefusesAllError)
    assert len(delivery.backend.batches) < 30
    sent = len(delivery.backend.sent)
    delivery.round()
    assert len(delivery.backend.sent) == sent + 1, "one event is the probe"


@pytest.mark.parametrize("max_events", [1, 500])
@pytest.mark.parametrize("bad", [(0,), (19,), (7, 13), (0, 19), (3, 4, 5)])
def test_a_few_bad_events_among_good_ones_are_dead_letters(
    make: MakeDelivery, max_events: int, bad: tuple[int, ...]
) -> None:
    messages = names(20)
    service = Service(bad=tuple(messages[number] for number in bad))
    delivery = make(Memory(answers=service, max_events=max_events))
    delivery.log(*messages)

    delivery.rounds()

    assert sorted(str(letter["event"]["message"]) for letter in delivery.letters) == sorted(service.bad)  # type: ignore[index]
    assert delivery.counts == {"delivered": 20 - len(bad), "dead": len(bad)}


def test_many_bad_events_in_a_row_do_not_hold_up_the_good_ones_behind_them(make: MakeDelivery) -> None:
    bad = names(10 * MAX_IN_ROW, "bad ")
    delivery = make(Memory(answers=Service(bad=tuple(bad)), max_events=1))
    delivery.log("first", *bad, *names(20))

    delivery.rounds(500)

    assert sorted(delivery.delivered) == sorted(["first", *names(20)])
    assert len(delivery.letters) == len(bad)


def test_the_first_event_of_all_may_be_a_bad_one(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=Service(bad=("bad",)), max_events=1))
    delivery.log("bad")
    for _ in range(3):
        delivery.round()
    assert delivery.letters == []

    delivery.log("good")
    delivery.rounds()

    assert delivery.counts == {"delivered": 1, "dead": 1}


def test_a_second_outage_blames_no_event_that_was_refused_in_the_first(make: MakeDelivery) -> None:
    service = Service()
    delivery = make(Memory(answers=service, max_events=1))
    delivery.log("early")
    delivery.rounds()
    for number in range(5):
        service.gone = True
        delivery.log(*names(10, f"{number}-"))
        for _ in range(20):
            delivery.round()
        service.gone = False
        delivery.round()  # one event is accepted

    delivery.rounds()

    assert delivery.letters == []
    assert delivery.counts == {"delivered": 51}


def test_the_state_is_refused_and_one_loud_line_says_so(make: MakeDelivery, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(gone=True)
    retry = Retry(initial=0.01, maximum=0.02, unauthorised=0.02)
    delivery = make(Memory(answers=service, max_events=1), retry=retry)
    delivery.log(*names(20))
    with caplog.at_level(logging.INFO, "shipper.process"), delivery.running():
        wait_until(lambda: delivery.deliverer.health.state == "refused" and delivery.deliverer.health.retried > 10)
        service.gone = False
        wait_until(lambda: delivery.counts == {"delivered": 20})

    loud = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(loud) == 1
    assert "refuses every event: HTTP 404" in loud[0].getMessage()


def test_events_that_the_quota_gives_up_while_they_are_refused_are_counted_once(make: MakeDelivery) -> None:
    service = Service(gone=True)
    delivery = make(Memory(answers=service, max_events=1))
    delivery.log(*names(20))
    for _ in range(10):
        delivery.round()

    delivery.deliverer.give_up_before(2)
    service.gone = False
    delivery.log("new")
    delivery.rounds()

    assert delivery.delivered == ["new"]
    assert delivery.counts == {"quota": 20, "delivered": 1}


def test_a_process_that_starts_while_everything_is_refused_loses_nothing_either(make: MakeDelivery) -> None:
    """The backend has accepted nothing since the process began, so it is to blame, not its events."""
    service = Service(gone=True)
    delivery = make(Memory(answers=service, max_events=1))
    delivery.log(*names(3))
    for _ in range(20):
        delivery.round()
    assert delivery.letters == []
    delivery.deliverer.stop()
    delivery.deliverer.run()

    again = make(delivery.backend)
    for _ in range(20):
        again.round()
    assert again.letters == []

    service.gone = False
    again.rounds()
    assert sorted(again.delivered) == names(3)


def test_events_that_come_one_by_one_to_a_retired_service_cost_a_few_dead_letters_at_most(make: MakeDelivery) -> None:
    service = Service()
    delivery = make(Memory(answers=service, max_events=1))
    delivery.log("early")
    delivery.rounds()

    service.gone = True
    for name in names(30):
        delivery.log(name)
        for _ in range(3):
            delivery.round()

    assert len(delivery.letters) < MAX_IN_ROW
    service.gone = False
    delivery.rounds()
    assert len(delivery.delivered) + len(delivery.letters) == 31
