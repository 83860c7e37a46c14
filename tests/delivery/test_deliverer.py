"""The way of the events from one cursor to one backend, with a backend and a clock of the test's own."""

from __future__ import annotations

import errno
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from shipper.backends.memory import Memory
from shipper.config.limits import Batching, Retry
from shipper.delivery.concurrency import InFlight
from shipper.delivery.dead_letters import DeadLetters
from shipper.delivery.deliverer import POISON_ATTEMPTS, POISON_PASSED, UNSAVED, Deliverer
from shipper.errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.cursor import Cursor
from shipper.journal.segments import segments
from shipper.journal.writer import Writer
from shipper.transport import frame
from shipper.transport.producer import new_token

from ..support.disks import tmpfs
from ..support.waiting import wait_until

AT_ONCE = Retry(initial=0.0, maximum=0.0, max_retry_after=0.0, unauthorised=0.0, poison_after=0.0)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Way:
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
        rest: float = 0.0,
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
            self.cursor, backend, self.dead, batching=batching, retry=retry, rest=rest, clock=self.clock
        )

    def log(self, *messages: str, route: tuple[str, ...] | None = None, size: int = 0) -> None:
        for message in messages:
            self.append(pack(Event(message=message, level=20, route=route, extra={"filler": "x" * size})))
        self.deliverer.wake.set()

    def append(self, payload: bytes) -> None:
        frames = frame.encode(payload, token=self._token, seq=next(self._sequence), pid=os.getpid(), level=20)
        self._writer.append(b"".join(frames))

    def mark(self) -> None:
        self._writer.append(b"".join(frame.encode(b"", token=self._token, seq=1, pid=1, flags=frame.MARK)))

    def round(self) -> RetryableError | None:
        """One look at the journal; the failure that asks for a pause, if any. Never waits for more."""
        self.deliverer.wake.set()
        try:
            self.deliverer._round()
        except RetryableError as failure:
            return failure
        return None

    def rounds(self, most: int = 200) -> None:
        """Hurry, and look until everything is settled."""
        self.deliverer.hurry_up(True, alone=False)
        self.deliverer.drained.clear()
        for _ in range(most):
            self.round()
            if self.deliverer.drained.is_set():
                return
        raise AssertionError(f"not settled after {most} rounds")

    @property
    def counts(self) -> dict[str, int]:
        return self.deliverer.counts

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
        self.deliverer.stopping.set()
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
            self.deliverer.stopping.set()
            self.deliverer.wake.set()
            thread.join(10)


@pytest.fixture
def way(spool: Path) -> Iterator[Callable[..., Way]]:
    """Makes one, and ends it after the test."""
    made: list[Way] = []

    def make(backend: Memory | None = None, **settings: object) -> Way:
        made.append(Way(spool, backend or Memory(), **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make

    for each in made:
        each.close()


MakeWay = Callable[..., Way]


# -- what an answer means --------------------------------------------------------------------------------------------


def test_what_is_delivered_is_settled_and_never_sent_again(way: MakeWay) -> None:
    one = way(Memory(max_events=1))
    one.log("a", "b", "c")

    one.rounds()
    one.round()

    assert one.sent == ["a", "b", "c"]
    assert one.counts == {"delivered": 3}
    assert one.deliverer.state == "idle"


@pytest.mark.parametrize("max_events", [1, 500])
def test_only_what_is_retryable_is_sent_again(way: MakeWay, max_events: int) -> None:
    refused = {"b": 2}

    def answer(event: Event) -> DeliveryError | None:
        if refused.get(event.message, 0):
            refused[event.message] -= 1
            return RetryableError("HTTP 503", status=503)
        return None

    one = way(Memory(answers=answer, max_events=max_events))
    one.log("a", "b", "c")

    one.rounds()

    assert sorted(one.sent) == ["a", "b", "b", "b", "c"]
    assert one.counts == {"delivered": 3}
    assert one.letters == []


def test_an_event_keeps_its_id_when_it_is_sent_again(way: MakeWay) -> None:
    one = way(Memory(answers=[RetryableError("timeout")] * 3, max_events=1))
    one.log("a")

    one.rounds()

    assert len(one.backend.sent) == 4
    assert len({event.id for event in one.backend.sent}) == 1


def test_a_rejected_event_becomes_a_dead_letter_with_status_and_body(way: MakeWay) -> None:
    one = way(Memory(answers=[RejectedError("HTTP 400", status=400, body="no such stage")], max_events=1))
    one.log("bad", "good")

    one.rounds()

    assert one.delivered == ["good"]
    assert one.counts == {"dead": 1, "delivered": 1}
    (letter,) = one.letters
    assert (letter["status"], letter["body"], letter["reason"]) == (400, "no such stage", "HTTP 400")
    assert letter["id"] == str(one.backend.sent[0].id)
    assert letter["event"]["message"] == "bad"  # type: ignore[index]


def test_refused_credentials_throw_nothing_away(way: MakeWay) -> None:
    one = way(Memory(answers=[UnauthorisedError("HTTP 401", status=401)] * 50, max_events=1))
    one.log("a", "b")

    failures = [one.round() for _ in range(50)]

    assert all(isinstance(failure, UnauthorisedError) for failure in failures)
    assert one.letters == []
    one.rounds()
    assert sorted(one.delivered) == ["a", "b"]


class Batches(Memory):
    """Answers a whole request, as a server does."""

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


def test_one_bad_event_in_a_batch_is_found_and_the_others_are_delivered(way: MakeWay) -> None:
    messages = [str(number) for number in range(100)]
    one = way(Batches(lambda batch: RejectedError("HTTP 400", status=400) if "37" in batch else None))
    one.log(*messages)

    one.rounds()

    assert sorted(one.delivered, key=int) == [message for message in messages if message != "37"]
    assert len(one.delivered) == 99
    assert [letter["event"]["message"] for letter in one.letters] == ["37"]  # type: ignore[index]
    assert len(one.backend.batches) < 20


def test_a_batch_that_is_too_large_is_halved_until_it_fits(way: MakeWay) -> None:
    one = way(Batches(lambda batch: TooLargeError("HTTP 413", status=413) if len(batch) > 10 else None))
    one.log(*map(str, range(64)))

    one.rounds()

    assert one.counts == {"delivered": 64}
    assert len(one.delivered) == len(set(one.delivered)) == 64


def test_a_single_event_that_is_too_large_is_cut_once(way: MakeWay) -> None:
    sizes: list[int] = []

    def answer(event: Event) -> DeliveryError | None:
        sizes.append(len(pack(event)))
        return TooLargeError("HTTP 413", status=413) if sizes[-1] > 40_000 else None

    one = way(Memory(answers=answer, max_events=1))
    one.log("large", size=100_000)

    one.rounds()

    assert one.counts == {"delivered": 1}
    assert len(sizes) == 2
    assert sizes[1] <= 40_000


def test_an_event_that_is_too_large_even_when_cut_is_dead(way: MakeWay) -> None:
    one = way(Memory(answers=lambda event: TooLargeError("HTTP 413", status=413, body="64 KB at most"), max_events=1))
    one.log("large", size=100_000)

    one.rounds()

    assert one.counts == {"dead": 1}
    assert len(one.backend.sent) == 2
    assert "too large even when cut" in str(one.letters[0]["reason"])
    assert (one.letters[0]["status"], one.letters[0]["body"]) == (413, "64 KB at most")


# -- backends that break their promise -------------------------------------------------------------------------------


class Scripted(Memory):
    """Does what it is told for each send: raises, or gives back what it is given."""

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


def test_an_event_that_twice_breaks_the_backend_is_dead_and_the_others_are_delivered(way: MakeWay) -> None:
    def script(events: Sequence[Event]) -> object:
        return KeyError("x") if any(event.message == "5" for event in events) else [None] * len(events)

    one = way(Scripted(script))
    one.log(*map(str, range(10)))

    one.rounds()

    assert one.counts == {"delivered": 9, "dead": 1}
    assert "KeyError in the backend" in str(one.letters[0]["reason"])


def test_a_backend_that_raises_once_is_asked_again(way: MakeWay) -> None:
    done: list[object] = [ValueError("once"), [None]]
    one = way(Scripted(lambda events: done.pop(0), max_events=1))
    one.log("a")

    one.rounds()

    assert one.counts == {"delivered": 1}


@pytest.mark.parametrize(
    "trouble", [ConnectionResetError("reset"), TimeoutError("late"), OSError(errno.EMFILE, "files")]
)
def test_network_trouble_that_a_backend_raises_is_a_reason_to_wait_not_to_reject(
    way: MakeWay, trouble: OSError
) -> None:
    done: list[object] = [trouble] * 5 + [[None]]
    one = way(Scripted(lambda events: done.pop(0), max_events=1))
    one.log("a")

    failures = [one.round() for _ in range(5)]
    one.rounds()

    assert all(type(failure) is RetryableError for failure in failures)
    assert one.counts == {"delivered": 1}


def test_an_answer_that_is_raised_counts_as_an_answer(way: MakeWay) -> None:
    done: list[object] = [RetryableError("HTTP 503", status=503, retry_after=7.0), [None]]
    one = way(Scripted(lambda events: done.pop(0), max_events=1))
    one.log("a")

    failure = one.round()
    one.rounds()

    assert failure is not None
    assert failure.retry_after == 7.0
    assert one.counts == {"delivered": 1}


@pytest.mark.parametrize("answers", [[], [None, None], None, 7, ["ok"], [True]], ids=repr)
def test_answers_that_are_none_make_dead_letters_and_no_crash(way: MakeWay, answers: object) -> None:
    one = way(Scripted(lambda events: answers, max_events=1))
    one.log("a")

    one.rounds()

    assert one.counts == {"dead": 1}


# -- what can't be delivered -----------------------------------------------------------------------------------------


def test_bytes_that_are_no_event_become_a_dead_letter(way: MakeWay) -> None:
    one = way(Memory(max_events=1))
    one.append(b"\x93no event")
    one.log("good")

    one.rounds()

    assert one.delivered == ["good"]
    assert one.counts == {"dead": 1, "delivered": 1}
    assert "undecodable" in str(one.letters[0]["reason"])
    assert one.letters[0]["event"] == {"undecodable": "k25vIGV2ZW50"}


def test_an_event_goes_only_to_the_backends_of_its_route(way: MakeWay) -> None:
    one = way(Memory("mine", max_events=1))
    one.log("for mine", route=("mine", "theirs"))
    one.log("for theirs", route=("theirs",))
    one.log("for all")

    one.rounds()

    assert one.delivered == ["for mine", "for all"]
    assert one.counts == {"delivered": 2, "filtered": 1}


def test_events_below_the_backends_level_are_filtered(way: MakeWay) -> None:
    one = way(Memory(level=30, max_events=1))
    one.log("info")

    one.rounds()

    assert one.sent == []
    assert one.counts == {"filtered": 1}


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_due_when_it_has_enough_events(way: MakeWay) -> None:
    one = way(batching=Batching(max_events=5, max_age=10))
    one.log("0", "1", "2", "3")

    one.round()
    assert one.sent == []

    one.log("4")
    one.round()
    assert one.sent == ["0", "1", "2", "3", "4"]


def test_a_batch_is_due_when_its_oldest_event_is_old_enough(way: MakeWay) -> None:
    clock = Clock()
    one = way(batching=Batching(max_age=10), clock=clock)
    one.log("a")

    one.round()
    assert one.sent == []

    clock.now += 9.9
    one.log("b")
    one.round()
    assert one.sent == []

    clock.now += 0.2
    one.round()
    assert one.sent == ["a", "b"]


def test_a_batch_is_due_when_it_has_enough_bytes(way: MakeWay) -> None:
    one = way(batching=Batching(max_bytes=5000, max_age=10))
    one.log("a", size=2000)

    one.round()
    assert one.sent == []

    one.log("b", "c", size=2000)
    one.rounds()
    assert one.sent[:2] == ["a", "b"]


def test_no_request_has_more_bytes_than_a_batch_may_have(way: MakeWay) -> None:
    one = way(batching=Batching(max_bytes=5000))
    one.log(*map(str, range(20)), size=1500)

    one.rounds()

    assert one.counts == {"delivered": 20}
    assert max(sum(len(pack(event)) for event in batch) for batch in one.backend.batches) <= 5000


def test_events_that_come_one_by_one_are_looked_for_some_at_a_time_until_somebody_waits(way: MakeWay) -> None:
    one = way(Memory(), batching=Batching(max_age=0.0), rest=3600.0)
    one.log("first")
    with one.running():
        wait_until(lambda: one.counts == {"delivered": 1} and one.deliverer.oldest is None, 10)
        one.log("second")
        one.log("third")
        one.deliverer.hurry_up(False, alone=False, awaited=True)
        wait_until(lambda: one.counts == {"delivered": 3}, 10)

    assert [[event.message for event in batch] for batch in one.backend.batches] == [["first"], ["second", "third"]]


def test_a_flush_makes_a_batch_due_at_once(way: MakeWay) -> None:
    one = way(batching=Batching(max_age=3600))
    one.log("a")
    one.mark()

    one.round()

    assert one.sent == ["a"]


def test_a_backend_that_takes_one_event_a_request_does_not_wait_for_age(way: MakeWay) -> None:
    one = way(Memory(max_events=1), batching=Batching(max_age=3600))
    one.log("a")

    one.round()

    assert one.sent == ["a"]


def test_a_deliverer_that_hurries_says_when_nothing_is_left(way: MakeWay) -> None:
    one = way(batching=Batching(max_age=3600))
    one.log("a")
    one.deliverer.hurry.set()

    one.round()
    assert not one.deliverer.drained.is_set()

    one.round()
    assert one.deliverer.drained.is_set()


def _saved(spool: Path) -> int:
    """How many deliveries a process that starts now would know of."""
    text = (spool / "cursor.json").read_text() if (spool / "cursor.json").exists() else "{}"
    return int(json.loads(text).get("counts", {}).get("delivered", 0))


def test_single_events_are_saved_some_at_a_time_and_a_crash_sends_no_more_again_than_may_be_under_way(
    way: MakeWay, spool: Path
) -> None:
    saved: list[int] = []
    unsaved: list[int] = []

    def look(event: Event) -> None:
        saved.append(_saved(spool))
        unsaved.append(len(one.sent) - saved[-1])

    one = way(Memory(max_events=1, max_in_flight=16, answers=look))
    for _ in range(100):
        one.log(*"abc")
        one.round()

    assert max(unsaved) <= 16
    assert len(set(saved)) <= 300 / 15 + 2
    assert one.counts == {"delivered": 300}
    one.rounds()
    assert _saved(spool) == 300


def test_single_events_are_saved_soon_even_when_no_more_come(way: MakeWay, spool: Path) -> None:
    one = way(Memory(max_events=1, max_in_flight=16))
    assert isinstance(one.clock, Clock)
    for _ in range(2):
        one.log("a")
        one.round()
    assert (_saved(spool), one.counts) == (1, {"delivered": 2})
    assert one.deliverer.durable < one.deliverer.position

    one.round()
    assert _saved(spool) == 1
    one.clock.now += 2 * UNSAVED
    one.round()

    assert _saved(spool) == 2
    assert one.deliverer.durable == one.deliverer.position


def test_before_it_waits_for_a_server_a_deliverer_saves(way: MakeWay, spool: Path) -> None:
    one = way(Memory(max_events=1, max_in_flight=16, answers=[None, None, RetryableError("down")]))
    for _ in range(2):
        one.log("a")
        one.round()
    one.log("b")

    assert one.round() is not None

    assert _saved(spool) == 2


# -- outages ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_down_gets_one_probe_at_a_time(way: MakeWay) -> None:
    one = way(Memory(answers=lambda event: RetryableError("HTTP 503", status=503), max_events=1))
    one.log(*map(str, range(50)))

    failures = [one.round() for _ in range(10)]

    assert None not in failures
    assert len(one.sent) == 10


def test_after_an_outage_the_rate_ramps_up(way: MakeWay) -> None:
    one = way(Memory(answers=[RetryableError("HTTP 503", status=503)], max_events=1))
    one.log(*map(str, range(100)))
    one.round()

    taken = []
    for _ in range(5):
        before = len(one.sent)
        one.round()
        taken.append(len(one.sent) - before)

    assert taken == [1, 2, 4, 8, 16]


def test_an_event_that_alone_keeps_failing_does_not_hold_up_the_others(way: MakeWay) -> None:
    clock = Clock()
    retry = Retry(initial=1.0, maximum=60.0, poison_after=3600)
    one = way(
        Memory(
            answers=lambda event: RetryableError("HTTP 500", status=500) if event.message == "bad" else None,
            max_events=1,
        ),
        retry=retry,
        clock=clock,
    )
    one.log("bad", *map(str, range(20)))

    for _ in range(40):
        one.round()
        clock.now += 0.01

    assert one.delivered == [str(number) for number in range(20)]
    assert one.sent.count("bad") < 25
    assert one.letters == []


def test_an_event_that_alone_keeps_failing_is_given_up_after_poison_after(way: MakeWay) -> None:
    clock = Clock()
    one = way(
        Memory(
            answers=lambda event: RetryableError("HTTP 500", status=500) if event.message == "bad" else None,
            max_events=1,
        ),
        retry=Retry(initial=1.0, maximum=1.0, poison_after=600),
        clock=clock,
    )
    one.log("bad")

    for number in range(POISON_ATTEMPTS + POISON_PASSED):
        one.log(str(number))
        one.round()
        one.round()
        clock.now += 2
    assert one.letters == []

    clock.now += 600
    one.rounds()
    assert [letter["event"]["message"] for letter in one.letters] == ["bad"]  # type: ignore[index]


@pytest.mark.parametrize("status", [None, 429, 503])
def test_an_outage_does_not_change_the_order(way: MakeWay, status: int | None) -> None:
    clock = Clock()
    answers = [None, None, *[RetryableError("down", status=status)] * 9]
    one = way(Memory(answers=answers, max_events=1), clock=clock)
    one.log(*map(str, range(40)))

    while len(one.delivered) < 40:
        one.round()
        clock.now += 0.1

    assert one.delivered == [str(number) for number in range(40)]


def test_no_event_is_given_up_while_the_server_is_down(way: MakeWay) -> None:
    clock = Clock()
    one = way(Memory(answers=lambda event: RetryableError("connect"), max_events=1), clock=clock)
    one.log("a", "b")

    for _ in range(100):
        clock.now += 60
        assert one.round() is not None

    assert one.letters == []


def test_an_event_that_a_batch_always_fails_with_does_not_keep_its_neighbours(way: MakeWay) -> None:
    clock = Clock()
    one = way(
        Batches(lambda batch: RetryableError("HTTP 500", status=500) if "bad" in batch else None, max_events=10),
        retry=Retry(initial=1.0, maximum=1.0, poison_after=60),
        batching=Batching(max_events=10),
        clock=clock,
    )
    one.log("0", "1", "bad", "3", "4")
    one.deliverer.hurry.set()

    for number in range(200):
        one.log(f"later {number}")
        one.round()
        one.round()
        clock.now += 2

    assert {"0", "1", "3", "4"} <= set(one.delivered)
    assert [letter["event"]["message"] for letter in one.letters] == ["bad"]  # type: ignore[index]


def test_a_retry_after_stops_everything_even_when_others_passed(way: MakeWay) -> None:
    one = way(Memory(answers=[None, RetryableError("HTTP 429", status=429, retry_after=7.0)], max_events=1))
    one.log("a", "b", "c")

    failure = one.round()

    assert failure is not None
    assert failure.retry_after == 7.0
    assert one.sent == ["a", "b"]


def test_stopping_ends_a_wait_promptly(way: MakeWay) -> None:
    one = way(Memory(answers=lambda event: UnauthorisedError("HTTP 401", status=401), max_events=1), retry=Retry())
    one.log("a")
    with one.running() as thread:
        wait_until(lambda: one.deliverer.state == "unauthorised")
        began = monotonic()
        one.deliverer.stopping.set()
        thread.join(5)
        took = monotonic() - began

    assert not thread.is_alive()
    assert took < 0.5


def test_the_state_tells_how_it_goes(way: MakeWay) -> None:
    answers = [RetryableError("HTTP 503", status=503), UnauthorisedError("HTTP 401", status=401)]
    one = way(Memory(answers=answers, max_events=1), retry=Retry(initial=0, maximum=0, unauthorised=0.3))
    one.log("a")
    with one.running():
        wait_until(lambda: one.deliverer.state == "unauthorised")
        wait_until(lambda: one.deliverer.state == "idle")

    assert one.deliverer.retried == 2
    assert one.deliverer.last_error == "HTTP 401"


# -- several at a time -----------------------------------------------------------------------------------------------


def test_the_number_of_requests_grows_only_with_answers_that_had_to_travel() -> None:
    near, far = InFlight(8), InFlight(8)

    for _ in range(40):
        near.answered(0.0001)
        far.answered(0.05)

    assert (near.size, far.size) == (1, 8)


def test_a_failure_halves_the_number_of_requests_and_then_it_grows_slowly() -> None:
    flight = InFlight(8)
    for _ in range(40):
        flight.answered(0.05)

    flight.failed()
    assert flight.size == 4

    for _ in range(3):
        flight.answered(0.05)
    assert flight.size == 4


def test_slow_answers_are_waited_for_side_by_side_but_never_more_than_allowed(way: MakeWay) -> None:
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

    one = way(Memory(answers=answer, max_events=1, max_in_flight=3), clock=monotonic)
    one.log(*map(str, range(60)))

    one.rounds()

    assert sorted(one.delivered, key=int) == [str(number) for number in range(60)]
    assert max(busiest) == 3


# -- the disk --------------------------------------------------------------------------------------------------------


class FullDisk(DeadLetters):
    """Takes nothing until it has room."""

    room = False

    def bury(self, *letter: object) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().bury(*letter)  # type: ignore[arg-type]


def test_a_dead_letter_that_the_disk_does_not_take_is_tried_again(way: MakeWay, spool: Path) -> None:
    disk = FullDisk(str(spool), "memory", limit=1 << 20)
    one = way(Memory(answers=lambda event: RejectedError("HTTP 400", status=400), max_events=1), dead=disk)
    one.log("bad")
    with one.running():
        wait_until(lambda: "No space left" in one.deliverer.last_error)
        assert one.counts == {}
        disk.room = True
        wait_until(lambda: one.counts == {"dead": 1})

    assert [letter["event"]["message"] for letter in one.letters] == ["bad"]  # type: ignore[index]


def test_a_full_disk_at_a_dead_letter_leaves_no_event_in_two_hands(way: MakeWay, spool: Path) -> None:
    """The other requests under way are waited for before anything is sent again."""
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

    one = way(Memory(answers=answer, max_events=1, max_in_flight=4), dead=disk, clock=monotonic)
    for _ in range(10):
        one.deliverer.in_flight.answered(1.0)
    one.log("a", "bad", "b", "c")

    with pytest.raises(OSError, match="No space left"):
        one.round()

    assert there == []
    disk.room = True
    one.rounds()
    assert twice == []
    assert one.counts == {"delivered": 3, "dead": 1}


def test_a_cursor_that_can_not_be_saved_is_saved_later(way: MakeWay, spool: Path) -> None:
    one = way(Memory(max_events=1))
    one.log("a")
    with ExitStack() as obstacle:
        obstacle.enter_context(_in_the_way(spool / "cursor.json.new"))
        with one.running():
            wait_until(lambda: one.deliverer.last_error.startswith("spool: "))
            assert one.deliverer.counts == {}
            obstacle.close()
            wait_until(lambda: one.counts == {"delivered": 1})

    assert one.sent == ["a"]


def test_events_get_on_while_the_cursor_can_not_be_saved(way: MakeWay, spool: Path) -> None:
    one = way(Memory(max_events=1, max_in_flight=16))
    with _in_the_way(spool / "cursor.json.new"):
        for message in "abc":
            one.log(message)
            with pytest.raises(OSError, match=r"cursor\.json"):
                one.deliverer._round()

    assert one.sent == ["a", "b", "c"]
    one.rounds()
    assert one.counts == {"delivered": 3}


def test_the_end_comes_even_when_the_cursor_can_not_be_saved(way: MakeWay, spool: Path) -> None:
    one = way(Memory(max_events=1))
    one.log("a")
    with _in_the_way(spool / "cursor.json.new"), one.running() as thread:
        wait_until(lambda: one.sent == ["a"])

    assert not thread.is_alive()


@contextmanager
def _in_the_way(path: Path) -> Iterator[None]:
    """A folder that can't get another name, in the place of the file that would replace the cursor's."""
    path.mkdir()
    with tmpfs(path, "64k"):
        yield


def test_what_the_quota_gave_up_is_counted_and_not_sent(way: MakeWay, spool: Path) -> None:
    one = way(Memory(max_events=1))
    one.log("old", "old too")
    one._writer.close()
    one._writer = Writer(str(spool), segment_bytes=1 << 30, first=2)
    one.log("new")
    one.deliverer.floor = 2

    one.rounds()

    assert segments(str(spool)) == [1, 2]
    assert one.delivered == ["new"]
    assert one.counts == {"quota": 2, "delivered": 1}
    assert one.deliverer.dropped == {"quota": {"INFO": 2}}
