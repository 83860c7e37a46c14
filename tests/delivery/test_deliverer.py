"""The deliverer sends the events of one cursor to one backend; the tests control the backend and the clock."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from shipper.backends.memory import Memory
from shipper.config.limits import Batching, Retry
from shipper.delivery.blame.failures import POISON_ACCEPTED, POISON_ATTEMPTS
from shipper.delivery.checkpoint import MAX_UNSAVED_SECONDS
from shipper.delivery.concurrency import Concurrency
from shipper.delivery.dead.writer import DeadLetters
from shipper.delivery.deliverer import Deliverer
from shipper.errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.cursors.cursor import Cursor
from shipper.journal.segments import segments
from shipper.journal.writer import Writer
from shipper.transport import frame
from shipper.transport.channel import new_token

from ..support.disks import tmpfs
from ..support.journals import BEHIND_ALL
from ..support.waiting import PATIENCE, wait_until

AT_ONCE = Retry(initial=0.0, maximum=0.0, max_retry_after=0.0, unauthorised=0.0, poison_after=0.0)


class Clock:
    """Returns `now`, which only the test changes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Delivery:
    """A journal, a cursor and a deliverer to `backend` in a folder of the test's own."""

    def __init__(
        self,
        folder: Path,
        backend: Memory,
        *,
        batching: Batching | None = None,
        retry: Retry = AT_ONCE,
        clock: Callable[[], float] | None = None,
        dead: DeadLetters | None = None,
        collect_seconds: float = 0.0,
    ) -> None:
        self.folder = folder
        self.backend = backend
        self.clock = clock or Clock()
        self._token = new_token()
        self._sequence = itertools.count()
        self._writer = Writer(str(folder), segment_bytes=1 << 30)
        self.cursor = Cursor(str(folder / "cursor.json"), str(folder), level=backend.level, clock=self.clock)
        self.dead = dead or DeadLetters(str(folder), backend.name, limit=1 << 20)
        self.deliverer = Deliverer(
            self.cursor,
            backend,
            self.dead,
            batching=batching,
            retry=retry,
            collect_seconds=collect_seconds,
            clock=self.clock,
        )

    def log(self, *messages: str, route: tuple[str, ...] | None = None, size: int = 0) -> None:
        for message in messages:
            self.append(pack(Event(message=message, level=20, route=route, extra={"filler": "x" * size})))
        self.deliverer.wake.set()

    def append(self, payload: bytes, *, most_frames: int | None = None) -> None:
        frames = frame.encode(payload, token=self._token, seq=next(self._sequence), pid=os.getpid(), level=20)
        self._writer.append(b"".join(frames[:most_frames]))

    def mark(self) -> None:
        self._writer.append(b"".join(frame.encode(b"", token=self._token, seq=1, pid=1, flags=frame.MARK)))

    def round(self) -> RetryableError | None:
        """Deliver what is due now, without waiting for more; return the error that asks for a pause, if any."""
        self.deliverer.wake.set()
        return self.deliverer.deliver_once()

    def rounds(self, most: int = 200) -> None:
        """Drain until everything is settled."""
        self.deliverer.set_drain_mode(True, final_to=None)
        self.deliverer.drained.clear()
        for _ in range(most):
            self.round()
            if self.deliverer.drained.is_set():
                return
        raise AssertionError(f"not settled after {most} rounds")

    @property
    def counts(self) -> Mapping[str, int]:
        return self.deliverer.progress.counts

    @property
    def delivered(self) -> list[str]:
        return [event.message for event in self.backend.events]

    @property
    def sent(self) -> list[str]:
        return [event.message for event in self.backend.sent]

    @property
    def letters(self) -> list[dict[str, object]]:
        path = Path(self.dead.path)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def close(self) -> None:
        self.deliverer.stop()
        self.deliverer.run()
        self._writer.close()

    @contextmanager
    def running(self) -> Iterator[threading.Thread]:
        """The deliverer in a thread of its own, until the block ends."""
        thread = threading.Thread(target=self.deliverer.run)
        thread.start()
        try:
            yield thread
        finally:
            self.deliverer.stop()
            self.deliverer.wake.set()
            thread.join(PATIENCE)


@pytest.fixture
def make(spool: Path) -> Iterator[Callable[..., Delivery]]:
    """Makes a journal, a cursor and a deliverer, and closes them after the test."""
    made: list[Delivery] = []

    def new(backend: Memory | None = None, **settings: object) -> Delivery:
        made.append(Delivery(spool, backend or Memory(), **settings))  # type: ignore[arg-type]
        return made[-1]

    yield new

    for each in made:
        each.close()


MakeDelivery = Callable[..., Delivery]


# -- what an answer means --------------------------------------------------------------------------------------------


def test_a_delivered_event_is_settled_and_not_sent_again(make: MakeDelivery) -> None:
    delivery = make(Memory(max_events=1))
    delivery.log("a", "b", "c")

    delivery.rounds()
    delivery.round()

    assert delivery.sent == ["a", "b", "c"]
    assert delivery.counts == {"delivered": 3}
    assert delivery.deliverer.health.state == "idle"


@pytest.mark.parametrize("max_events", [1, 500])
def test_only_events_with_a_retryable_answer_are_sent_again(make: MakeDelivery, max_events: int) -> None:
    refused = {"b": 2}

    def answer(event: Event) -> DeliveryError | None:
        if refused.get(event.message, 0):
            refused[event.message] -= 1
            return RetryableError("HTTP 503", status=503)
        return None

    delivery = make(Memory(answers=answer, max_events=max_events))
    delivery.log("a", "b", "c")

    delivery.rounds()

    assert sorted(delivery.sent) == ["a", "b", "b", "b", "c"]
    assert delivery.counts == {"delivered": 3}
    assert delivery.letters == []


def test_an_event_keeps_its_id_when_it_is_sent_again(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=[RetryableError("timeout")] * 3, max_events=1))
    delivery.log("a")

    delivery.rounds()

    assert len(delivery.backend.sent) == 4
    assert len({event.id for event in delivery.backend.sent}) == 1


def test_a_rejected_event_becomes_a_dead_letter_with_status_and_body(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=refusing("bad"), max_events=1))
    delivery.log("bad", "good")

    delivery.rounds()

    assert delivery.delivered == ["good"]
    assert delivery.counts == {"dead": 1, "delivered": 1}
    (letter,) = delivery.letters
    assert (letter["status"], letter["body"], letter["reason"]) == (400, "no such stage", "HTTP 400")
    assert letter["id"] == str(delivery.backend.sent[0].id)
    assert letter["event"]["message"] == "bad"  # type: ignore[index]


def test_refused_credentials_make_no_dead_letters(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=[UnauthorisedError("HTTP 401", status=401)] * 50, max_events=1))
    delivery.log("a", "b")

    failures = [delivery.round() for _ in range(50)]

    assert all(isinstance(failure, UnauthorisedError) for failure in failures)
    assert delivery.letters == []
    delivery.rounds()
    assert sorted(delivery.delivered) == ["a", "b"]


def refusing(*messages: str) -> Callable[[Event], DeliveryError | None]:
    """Refuses the events with these messages, and accepts all others."""
    refusal = RejectedError("HTTP 400", status=400, body="no such stage")
    return lambda event: refusal if event.message in messages else None


class Batches(Memory):
    """Gives one answer for all events of a request, as a server does."""

    def __init__(self, judge: Callable[[list[str]], DeliveryError | None], **settings: int) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._judge = judge

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        self.batches.append(list(events))
        self.sent.extend(events)
        answer = self._judge([event.message for event in events])
        if answer is None:
            self.events.extend(events)
        return [answer] * len(events)


def test_one_bad_event_in_a_batch_is_found_and_the_others_are_delivered(make: MakeDelivery) -> None:
    messages = [str(number) for number in range(100)]
    delivery = make(Batches(lambda batch: RejectedError("HTTP 400", status=400) if "37" in batch else None))
    delivery.log(*messages)

    delivery.rounds()

    assert sorted(delivery.delivered, key=int) == [message for message in messages if message != "37"]
    assert len(delivery.delivered) == 99
    assert [letter["event"]["message"] for letter in delivery.letters] == ["37"]  # type: ignore[index]
    assert len(delivery.backend.batches) < 20


def test_a_batch_that_is_too_large_is_halved_until_it_fits(make: MakeDelivery) -> None:
    delivery = make(Batches(lambda batch: TooLargeError("HTTP 413", status=413) if len(batch) > 10 else None))
    delivery.log(*map(str, range(64)))

    delivery.rounds()

    assert delivery.counts == {"delivered": 64}
    assert len(delivery.delivered) == len(set(delivery.delivered)) == 64


def test_a_single_event_that_is_too_large_is_cut_once(make: MakeDelivery) -> None:
    sizes: list[int] = []

    def answer(event: Event) -> DeliveryError | None:
        sizes.append(len(pack(event)))
        return TooLargeError("HTTP 413", status=413) if sizes[-1] > 40_000 else None

    delivery = make(Memory(answers=answer, max_events=1))
    delivery.log("large", size=100_000)

    delivery.rounds()

    assert delivery.counts == {"delivered": 1}
    assert len(sizes) == 2
    assert sizes[1] <= 40_000


def test_an_event_that_is_too_large_even_when_cut_is_dead(make: MakeDelivery) -> None:
    delivery = make(
        Memory(answers=lambda event: TooLargeError("HTTP 413", status=413, body="64 KB at most"), max_events=1)
    )
    delivery.log("large", size=100_000)

    delivery.rounds()

    assert delivery.counts == {"dead": 1}
    assert len(delivery.backend.sent) == 2
    assert "too large even when cut" in str(delivery.letters[0]["reason"])
    assert (delivery.letters[0]["status"], delivery.letters[0]["body"]) == (413, "64 KB at most")


# -- backends that break their promise -------------------------------------------------------------------------------


class Scripted(Memory):
    """Calls ``script`` at each send, and raises its result if that is an exception; else returns it."""

    def __init__(self, script: Callable[[Sequence[Event]], object], **settings: int) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self._script = script

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        self.sent.extend(events)
        done = self._script(events)
        if isinstance(done, BaseException):
            raise done
        if done == [None] * len(events):
            self.events.extend(events)
        return done  # type: ignore[return-value]


def test_an_event_that_twice_breaks_the_backend_is_dead_and_the_others_are_delivered(make: MakeDelivery) -> None:
    def script(events: Sequence[Event]) -> object:
        return KeyError("x") if any(event.message == "5" for event in events) else [None] * len(events)

    delivery = make(Scripted(script))
    delivery.log(*map(str, range(10)))

    delivery.rounds()

    assert delivery.counts == {"delivered": 9, "dead": 1}
    assert "KeyError in the backend" in str(delivery.letters[0]["reason"])


def test_a_backend_that_raises_once_is_asked_again(make: MakeDelivery) -> None:
    done: list[object] = [ValueError("once"), [None]]
    delivery = make(Scripted(lambda events: done.pop(0), max_events=1))
    delivery.log("a")

    delivery.rounds()

    assert delivery.counts == {"delivered": 1}


@pytest.mark.parametrize(
    "trouble", [ConnectionResetError("reset"), TimeoutError("late"), OSError(errno.EMFILE, "files")]
)
def test_a_network_error_that_a_backend_raises_is_retried_and_not_rejected(
    make: MakeDelivery, trouble: OSError
) -> None:
    done: list[object] = [trouble] * 5 + [[None]]
    delivery = make(Scripted(lambda events: done.pop(0), max_events=1))
    delivery.log("a")

    failures = [delivery.round() for _ in range(5)]
    delivery.rounds()

    assert all(type(failure) is RetryableError for failure in failures)
    assert delivery.counts == {"delivered": 1}


def test_an_answer_that_is_raised_counts_as_an_answer(make: MakeDelivery) -> None:
    done: list[object] = [RetryableError("HTTP 503", status=503, retry_after=7.0), [None]]
    delivery = make(Scripted(lambda events: done.pop(0), max_events=1))
    delivery.log("a")

    failure = delivery.round()
    delivery.rounds()

    assert failure is not None
    assert failure.retry_after == 7.0
    assert delivery.counts == {"delivered": 1}


@pytest.mark.parametrize("answers", [[], [None, None], None, 7, ["ok"], [True]], ids=repr)
def test_answers_of_a_wrong_number_or_type_make_dead_letters_and_no_crash(make: MakeDelivery, answers: object) -> None:
    delivery = make(Scripted(lambda events: answers if events[0].message == "a" else [None], max_events=1))
    delivery.log("a", "good")

    delivery.rounds()

    assert delivery.counts == {"delivered": 1, "dead": 1}


# -- what can't be delivered -----------------------------------------------------------------------------------------


def test_bytes_that_are_no_event_become_a_dead_letter(make: MakeDelivery) -> None:
    delivery = make(Memory(max_events=1))
    delivery.append(b"\x93no event")
    delivery.log("good")

    delivery.rounds()

    assert delivery.delivered == ["good"]
    assert delivery.counts == {"dead": 1, "delivered": 1}
    assert "undecodable" in str(delivery.letters[0]["reason"])
    assert delivery.letters[0]["event"] == {"undecodable": "k25vIGV2ZW50"}


def test_an_event_goes_only_to_the_backends_of_its_route(make: MakeDelivery) -> None:
    delivery = make(Memory("mine", max_events=1))
    delivery.log("for mine", route=("mine", "theirs"))
    delivery.log("for theirs", route=("theirs",))
    delivery.log("for all")

    delivery.rounds()

    assert delivery.delivered == ["for mine", "for all"]
    assert delivery.counts == {"delivered": 2, "filtered": 1}


def test_events_below_the_backends_level_are_filtered(make: MakeDelivery) -> None:
    delivery = make(Memory(level=30, max_events=1))
    delivery.log("info")

    delivery.rounds()

    assert delivery.sent == []
    assert delivery.counts == {"filtered": 1}


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_due_when_it_has_enough_events(make: MakeDelivery) -> None:
    delivery = make(batching=Batching(max_events=5, max_age=10))
    delivery.log("0", "1", "2", "3")

    delivery.round()
    assert delivery.sent == []

    delivery.log("4")
    delivery.round()
    assert delivery.sent == ["0", "1", "2", "3", "4"]


def test_a_batch_is_due_when_its_oldest_event_is_old_enough(make: MakeDelivery) -> None:
    clock = Clock()
    delivery = make(batching=Batching(max_age=10), clock=clock)
    delivery.log("a")

    delivery.round()
    assert delivery.sent == []

    clock.now += 9.9
    delivery.log("b")
    delivery.round()
    assert delivery.sent == []

    clock.now += 0.2
    delivery.round()
    assert delivery.sent == ["a", "b"]


def test_a_batch_is_due_when_it_has_enough_bytes(make: MakeDelivery) -> None:
    delivery = make(batching=Batching(max_bytes=5000, max_age=10))
    delivery.log("a", size=2000)

    delivery.round()
    assert delivery.sent == []

    delivery.log("b", "c", size=2000)
    delivery.rounds()
    assert delivery.sent[:2] == ["a", "b"]


def test_no_request_has_more_bytes_than_a_batch_may_have(make: MakeDelivery) -> None:
    delivery = make(batching=Batching(max_bytes=5000))
    delivery.log(*map(str, range(20)), size=1500)

    delivery.rounds()

    assert delivery.counts == {"delivered": 20}
    assert max(sum(len(pack(event)) for event in batch) for batch in delivery.backend.batches) <= 5000


def test_single_events_are_collected_for_a_moment_unless_a_flush_waits(make: MakeDelivery) -> None:
    delivery = make(Memory(), batching=Batching(max_age=0.0), collect_seconds=3600.0)
    delivery.log("first")
    with delivery.running():
        wait_until(lambda: delivery.counts == {"delivered": 1} and delivery.deliverer.health.oldest is None, 10)
        delivery.log("second")
        delivery.log("third")
        delivery.deliverer.set_drain_mode(False, final_to=None, flush_waiting=True)
        wait_until(lambda: delivery.counts == {"delivered": 3}, 10)

    assert [[event.message for event in batch] for batch in delivery.backend.batches] == [
        ["first"],
        ["second", "third"],
    ]


def test_a_flush_makes_a_batch_due_at_once(make: MakeDelivery) -> None:
    delivery = make(batching=Batching(max_age=3600))
    delivery.log("a")
    delivery.mark()

    delivery.round()

    assert delivery.sent == ["a"]


def test_a_backend_that_takes_one_event_a_request_does_not_wait_for_age(make: MakeDelivery) -> None:
    delivery = make(Memory(max_events=1), batching=Batching(max_age=3600))
    delivery.log("a")

    delivery.round()

    assert delivery.sent == ["a"]


def test_a_draining_deliverer_says_when_nothing_is_left(make: MakeDelivery) -> None:
    delivery = make(batching=Batching(max_age=3600))
    delivery.log("a")
    delivery.deliverer.set_drain_mode(True, final_to=None)

    delivery.round()
    assert not delivery.deliverer.drained.is_set()

    delivery.round()
    assert delivery.deliverer.drained.is_set()


def test_a_draining_deliverer_has_something_left_while_the_rest_of_an_event_may_come(make: MakeDelivery) -> None:
    delivery = make()
    delivery.deliverer.set_drain_mode(True, final_to=None)
    delivery.round()
    assert delivery.deliverer.drained.is_set()
    delivery.append(b"." * 9000, most_frames=1)

    delivery.round()
    assert not delivery.deliverer.drained.is_set()

    delivery.deliverer.set_drain_mode(True, final_to=BEHIND_ALL)
    delivery.round()
    assert delivery.deliverer.drained.is_set()
    assert delivery.counts == {"incomplete": 1}


def _saved(spool: Path) -> int:
    """Return the count of delivered events in the cursor file, from which a new process would go on."""
    text = (spool / "cursor.json").read_text() if (spool / "cursor.json").exists() else "{}"
    return int(json.loads(text).get("counts", {}).get("delivered", 0))


def test_single_events_are_saved_some_at_a_time_and_a_crash_sends_no_more_again_than_may_be_under_way(
    make: MakeDelivery, spool: Path
) -> None:
    saved: list[int] = []
    unsaved: list[int] = []

    def look(event: Event) -> None:
        saved.append(_saved(spool))
        unsaved.append(len(delivery.sent) - saved[-1])

    delivery = make(Memory(max_events=1, max_in_flight=16, answers=look))
    for _ in range(100):
        delivery.log(*"abc")
        delivery.round()

    assert max(unsaved) <= 16
    assert len(set(saved)) <= 300 / 15 + 2
    assert delivery.counts == {"delivered": 300}
    delivery.rounds()
    assert _saved(spool) == 300


def test_single_events_are_saved_soon_even_when_no_more_come(make: MakeDelivery, spool: Path) -> None:
    delivery = make(Memory(max_events=1, max_in_flight=16))
    assert isinstance(delivery.clock, Clock)
    for _ in range(2):
        delivery.log("a")
        delivery.round()
    assert (_saved(spool), delivery.counts) == (1, {"delivered": 2})
    assert delivery.deliverer.progress.durable < delivery.deliverer.progress.position

    delivery.round()
    assert _saved(spool) == 1
    delivery.clock.now += 2 * MAX_UNSAVED_SECONDS
    delivery.round()

    assert _saved(spool) == 2
    assert delivery.deliverer.progress.durable == delivery.deliverer.progress.position


def test_what_a_flush_waits_for_is_saved_at_once(make: MakeDelivery, spool: Path) -> None:
    """After a flush the application may end, and its container with it."""
    delivery = make(Memory(max_events=1, max_in_flight=16))
    for _ in range(2):
        delivery.log("a")
        delivery.round()
    assert _saved(spool) == 1

    delivery.deliverer.set_drain_mode(False, final_to=None, flush_waiting=True)
    delivery.round()

    assert _saved(spool) == 2
    assert delivery.deliverer.progress.durable == delivery.deliverer.progress.position


def test_the_cursor_is_saved_before_a_wait_for_the_server(make: MakeDelivery, spool: Path) -> None:
    delivery = make(Memory(max_events=1, max_in_flight=16, answers=[None, None, RetryableError("down")]))
    for _ in range(2):
        delivery.log("a")
        delivery.round()
    delivery.log("b")

    assert delivery.round() is not None

    assert _saved(spool) == 2


# -- outages ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_gets_one_probe_at_a_time(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=lambda event: RetryableError("HTTP 503", status=503), max_events=1))
    delivery.log(*map(str, range(50)))

    failures = [delivery.round() for _ in range(10)]

    assert None not in failures
    assert len(delivery.sent) == 10


def test_after_an_outage_the_rate_ramps_up(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=[RetryableError("HTTP 503", status=503)], max_events=1))
    delivery.log(*map(str, range(100)))
    delivery.round()

    taken = []
    for _ in range(5):
        before = len(delivery.sent)
        delivery.round()
        taken.append(len(delivery.sent) - before)

    assert taken == [1, 2, 4, 8, 16]


def test_an_event_that_alone_keeps_failing_does_not_hold_up_the_others(make: MakeDelivery) -> None:
    clock = Clock()
    retry = Retry(initial=1.0, maximum=60.0, poison_after=3600)
    delivery = make(
        Memory(
            answers=lambda event: RetryableError("HTTP 500", status=500) if event.message == "bad" else None,
            max_events=1,
        ),
        retry=retry,
        clock=clock,
    )
    delivery.log("bad", *map(str, range(20)))

    for _ in range(40):
        delivery.round()
        clock.now += 0.01

    assert delivery.delivered == [str(number) for number in range(20)]
    assert delivery.sent.count("bad") < 25
    assert delivery.letters == []


def test_an_event_that_alone_keeps_failing_is_given_up_after_poison_after(make: MakeDelivery) -> None:
    clock = Clock()
    delivery = make(
        Memory(
            answers=lambda event: RetryableError("HTTP 500", status=500) if event.message == "bad" else None,
            max_events=1,
        ),
        retry=Retry(initial=1.0, maximum=1.0, poison_after=600),
        clock=clock,
    )
    delivery.log("bad")

    for number in range(POISON_ATTEMPTS + POISON_ACCEPTED):
        delivery.log(str(number))
        delivery.round()
        delivery.round()
        clock.now += 2
    assert delivery.letters == []

    clock.now += 600
    delivery.rounds()
    assert [letter["event"]["message"] for letter in delivery.letters] == ["bad"]  # type: ignore[index]


@pytest.mark.parametrize("status", [None, 429, 503])
def test_an_outage_does_not_change_the_order(make: MakeDelivery, status: int | None) -> None:
    clock = Clock()
    answers = [None, None, *[RetryableError("down", status=status)] * 9]
    delivery = make(Memory(answers=answers, max_events=1), clock=clock)
    delivery.log(*map(str, range(40)))

    while len(delivery.delivered) < 40:
        delivery.round()
        clock.now += 0.1

    assert delivery.delivered == [str(number) for number in range(40)]


def test_no_event_is_given_up_while_the_server_is_down(make: MakeDelivery) -> None:
    clock = Clock()
    delivery = make(Memory(answers=lambda event: RetryableError("connect"), max_events=1), clock=clock)
    delivery.log("a", "b")

    for _ in range(100):
        clock.now += 60
        assert delivery.round() is not None

    assert delivery.letters == []


def test_an_event_with_which_every_batch_fails_does_not_hold_up_the_others(make: MakeDelivery) -> None:
    clock = Clock()
    delivery = make(
        Batches(lambda batch: RetryableError("HTTP 500", status=500) if "bad" in batch else None, max_events=10),
        retry=Retry(initial=1.0, maximum=1.0, poison_after=60),
        batching=Batching(max_events=10),
        clock=clock,
    )
    delivery.log("0", "1", "bad", "3", "4")
    delivery.deliverer.set_drain_mode(True, final_to=None)

    for number in range(200):
        delivery.log(f"later {number}")
        delivery.round()
        delivery.round()
        clock.now += 2

    assert {"0", "1", "3", "4"} <= set(delivery.delivered)
    assert [letter["event"]["message"] for letter in delivery.letters] == ["bad"]  # type: ignore[index]


def test_a_retry_after_stops_everything_even_when_others_passed(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=[None, RetryableError("HTTP 429", status=429, retry_after=7.0)], max_events=1))
    delivery.log("a", "b", "c")

    failure = delivery.round()

    assert failure is not None
    assert failure.retry_after == 7.0
    assert delivery.sent == ["a", "b"]


def test_stopping_ends_a_wait_promptly(make: MakeDelivery) -> None:
    delivery = make(
        Memory(answers=lambda event: UnauthorisedError("HTTP 401", status=401), max_events=1),
        retry=Retry(unauthorised=86_400.0),
    )
    delivery.log("a")
    with delivery.running() as thread:
        wait_until(lambda: delivery.deliverer.health.state == "unauthorised")
        delivery.deliverer.stop()
        thread.join(PATIENCE)

    assert not thread.is_alive()


def test_a_pause_ends_a_round_after_the_requests_under_way(make: MakeDelivery) -> None:
    delivery = make(Memory(answers=lambda event: delivery.deliverer.pause.set(1000.0), max_events=1))
    delivery.log("a", "b")
    with delivery.running():
        for number in (1, 2):
            wait_until(lambda number=number: delivery.counts.get("delivered") == number)  # type: ignore[misc]
            assert delivery.deliverer.pause.is_on
            assert len(delivery.sent) == number
            delivery.deliverer.pause.set(None)


def test_a_pause_ends_a_wait_before_a_retry_and_counts_as_drained(make: MakeDelivery) -> None:
    delivery = make(
        Memory(answers=lambda event: UnauthorisedError("HTTP 401", status=401), max_events=1),
        retry=Retry(unauthorised=86_400.0),
    )
    delivery.log("a")
    with delivery.running():
        wait_until(lambda: delivery.deliverer.health.next_try is not None)
        delivery.deliverer.pause.set(1000.0)
        delivery.deliverer.set_drain_mode(True, final_to=BEHIND_ALL)

        wait_until(delivery.deliverer.drained.is_set)

    assert delivery.sent == ["a"]


def test_a_wake_up_ends_a_wait_before_a_retry(make: MakeDelivery) -> None:
    delivery = make(
        Memory(answers=[UnauthorisedError("HTTP 401", status=401)], max_events=1),
        retry=Retry(unauthorised=86_400.0),
    )
    delivery.log("a")
    with delivery.running():
        wait_until(lambda: delivery.deliverer.health.next_try is not None)

        def is_delivered() -> bool:
            delivery.deliverer.pause.interrupt()  # again and again: the wait may begin after the first call
            return delivery.delivered == ["a"]

        wait_until(is_delivered)


def test_the_state_follows_the_last_answer_and_an_error_goes_when_it_is_over(make: MakeDelivery) -> None:
    answers = [RetryableError("HTTP 503", status=503), UnauthorisedError("HTTP 401", status=401)]
    delivery = make(Memory(answers=answers, max_events=1), retry=Retry(initial=0, maximum=0, unauthorised=2.0))
    delivery.log("a")
    with delivery.running():
        wait_until(lambda: delivery.deliverer.health.state == "unauthorised")
        wait_until(lambda: delivery.deliverer.health.next_try is not None)
        assert (delivery.deliverer.health.last_error, delivery.deliverer.health.since > 0) == ("HTTP 401", True)
        wait_until(lambda: delivery.deliverer.health.state == "idle")

    assert delivery.deliverer.health.retried == 2
    assert (delivery.deliverer.health.last_error, delivery.deliverer.health.last_error_at) == ("", None)
    assert delivery.deliverer.health.next_try is None


# -- several at a time -----------------------------------------------------------------------------------------------


def test_concurrency_grows_only_with_answers_that_came_over_a_network() -> None:
    near, far = Concurrency(8), Concurrency(8)

    for _ in range(40):
        near.answered(0.0001)
        far.answered(0.05)

    assert (near.size, far.size) == (1, 8)


def test_a_failure_halves_concurrency_and_then_it_grows_slowly() -> None:
    flight = Concurrency(8)
    for _ in range(40):
        flight.answered(0.05)

    flight.failed()
    assert flight.size == 4

    for _ in range(3):
        flight.answered(0.05)
    assert flight.size == 4


def test_slow_answers_are_awaited_in_parallel_up_to_the_maximum(make: MakeDelivery) -> None:
    inside = threading.Semaphore(0)
    busiest: list[int] = []
    now: list[int] = []
    guard = threading.Lock()
    pause = threading.Event()

    def answer(event: Event) -> None:
        with guard:
            now.append(1)
            busiest.append(len(now))
        inside.release()
        pause.wait(0.01)
        with guard:
            now.pop()

    delivery = make(Memory(answers=answer, max_events=1, max_in_flight=3), clock=monotonic)
    delivery.log(*map(str, range(60)))

    delivery.rounds()

    assert sorted(delivery.delivered, key=int) == [str(number) for number in range(60)]
    assert max(busiest) == 3


# -- the disk --------------------------------------------------------------------------------------------------------


class FullDisk(DeadLetters):
    """Raises ENOSPC until ``room`` is set."""

    room = False

    def write(self, *letter: object) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(*letter)  # type: ignore[arg-type]


def test_a_dead_letter_that_the_disk_does_not_take_is_tried_again(make: MakeDelivery, spool: Path) -> None:
    disk = FullDisk(str(spool), "memory", limit=1 << 20)
    delivery = make(Memory(answers=refusing("bad"), max_events=1), dead=disk)
    delivery.log("bad", "good")
    with delivery.running():
        wait_until(lambda: "No space left" in delivery.deliverer.health.last_error)
        assert delivery.counts == {}
        disk.room = True
        wait_until(lambda: delivery.counts == {"dead": 1, "delivered": 1})

    assert [letter["event"]["message"] for letter in delivery.letters] == ["bad"]  # type: ignore[index]


def test_after_a_full_disk_at_a_dead_letter_no_event_is_sent_twice_at_once(make: MakeDelivery, spool: Path) -> None:
    """The deliverer waits for the requests under way before it sends anything again."""
    disk = FullDisk(str(spool), "memory", limit=1 << 20)
    pause = threading.Event()
    there: list[str] = []
    twice: list[str] = []

    def answer(event: Event) -> DeliveryError | None:
        if event.message in there:
            twice.append(event.message)
        there.append(event.message)
        pause.wait(0.02 if event.message == "bad" else 0.1)
        there.remove(event.message)
        return RejectedError("HTTP 400", status=400) if event.message == "bad" else None

    delivery = make(Memory(answers=answer, max_events=1, max_in_flight=4), dead=disk, clock=monotonic)
    for _ in range(10):
        delivery.deliverer._dispatcher.concurrency.answered(1.0)
    delivery.log("a", "bad", "b", "c")
    delivery.round()
    delivery.log("d", "e")

    with pytest.raises(OSError, match="No space left"):
        delivery.round()

    assert there == []
    disk.room = True
    delivery.rounds()
    assert twice == []
    assert delivery.counts == {"delivered": 5, "dead": 1}


def test_a_cursor_that_can_not_be_saved_is_saved_later(make: MakeDelivery, spool: Path) -> None:
    delivery = make(Memory(max_events=1))
    delivery.log("a")
    with ExitStack() as obstacle:
        obstacle.enter_context(_in_the_way(spool / "cursor.json.new"))
        with delivery.running():
            wait_until(lambda: delivery.deliverer.health.last_error.startswith("spool: "))
            assert delivery.deliverer.progress.counts == {}
            obstacle.close()
            wait_until(lambda: delivery.counts == {"delivered": 1})

    assert delivery.sent == ["a"]


def test_delivery_goes_on_while_the_cursor_can_not_be_saved(make: MakeDelivery, spool: Path) -> None:
    delivery = make(Memory(max_events=1, max_in_flight=16))
    with _in_the_way(spool / "cursor.json.new"):
        for message in "abc":
            delivery.log(message)
            with pytest.raises(OSError, match=r"cursor\.json"):
                delivery.deliverer.deliver_once()

    assert delivery.sent == ["a", "b", "c"]
    delivery.rounds()
    assert delivery.counts == {"delivered": 3}


def test_the_deliverer_ends_even_when_the_cursor_can_not_be_saved(make: MakeDelivery, spool: Path) -> None:
    delivery = make(Memory(max_events=1))
    delivery.log("a")
    with _in_the_way(spool / "cursor.json.new"), delivery.running() as thread:
        wait_until(lambda: delivery.sent == ["a"])

    assert not thread.is_alive()


@contextmanager
def _in_the_way(path: Path) -> Iterator[None]:
    """Mount a folder at ``path``, so that the new cursor file can't be written there."""
    path.mkdir()
    with tmpfs(path, "64k"):
        yield


def test_events_that_the_quota_gave_up_are_counted_and_not_sent(make: MakeDelivery, spool: Path) -> None:
    delivery = make(Memory(max_events=1))
    delivery.log("old", "old too")
    delivery._writer.close()
    delivery._writer = Writer(str(spool), segment_bytes=1 << 30, first=2)
    delivery.log("new")
    delivery.deliverer.give_up_before(2)

    delivery.rounds()

    assert segments(str(spool)) == [1, 2]
    assert delivery.delivered == ["new"]
    assert delivery.counts == {"quota": 2, "delivered": 1}
    assert delivery.deliverer.progress.dropped == {"quota": {"INFO": 2}}
