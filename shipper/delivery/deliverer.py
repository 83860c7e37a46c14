"""batch, send, settle, commit - the way of the events from one cursor to one backend."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from ..config.limits import Batching, Retry
from ..errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError, UndecodableError
from ..event.codec import unpack
from ..event.model import Event
from ..event.truncate import cut
from ..journal.cursor import Cursor
from ..journal.window import DEAD, DELIVERED, FILTERED, Entry
from .concurrency import InFlight
from .dead_letters import DeadLetters
from .retry import Persistence

SINGLES = 100  # most requests of one event in a round; a crash re-sends at most a round
BATCHES = 4  # most requests of many events in a round
CUT = 32 * 1024  # bytes a single event is cut to when a server finds it too large
IDLE = 1.0  # seconds between two looks when nobody rings
REST = 0.04  # seconds between two looks while nobody waits: some events a look, instead of a look for each
UNSAVED = 0.05  # seconds that a few single events may be settled and not saved yet
SUSPECT = 5  # attempts in a row that failed before another event is tried as the probe
OUTAGE = (408, 425, 429, 502, 503, 504)  # answers that no event is to blame for
POISON_ATTEMPTS = 20
POISON_PASSED = 20

Answers = Sequence["DeliveryError | None"]
_log = logging.getLogger("shipper.process")


class Backend(Protocol):
    """What is asked of a backend here; `backends.Backend` is the whole promise."""

    @property
    def name(self) -> str: ...
    @property
    def max_events(self) -> int: ...
    @property
    def max_in_flight(self) -> int: ...
    def send(self, events: Sequence[Event]) -> Answers: ...


class Deliverer:
    """Takes events from its cursor to its backend until it is told to stop.

    `wake` is set by whoever appends to the journal. `hurry` makes every batch due at once. Nothing is given up here
    but what a backend rejects: it becomes a dead letter. Unless it ``takes_all``, only events that name the backend are
    sent; all others are filtered.
    """

    def __init__(
        self,
        cursor: Cursor,
        backend: Backend,
        dead: DeadLetters,
        *,
        batching: Batching | None = None,
        retry: Retry | None = None,
        settled: Callable[[], None] = lambda: None,
        takes_all: bool = True,
        rest: float = REST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend = backend
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self.hurry = threading.Event()
        self.prompt = threading.Event()  # somebody waits for events to be settled
        self.drained = threading.Event()  # while hurrying: nothing readable is left
        self.floor = 0  # segments before it were given up by the quota
        self.state = "idle"
        self.last_error = ""
        self.retried = 0
        self.oldest: float | None = None  # time of the oldest unsettled event that was looked at
        self.position = cursor.position
        self.durable = cursor.position  # up to where a crash has nothing sent again
        self.base = cursor.base
        self.settled_count = cursor.settled
        self.counts = dict(cursor.counts)
        self.dropped = {reason: dict(levels) for reason, levels in cursor.dropped.items()}
        self.in_flight = InFlight(backend.max_in_flight)
        self._cursor = cursor
        self._dead = dead
        self._batching = batching or Batching()
        self._retry = retry or Retry()
        self._tell_settled = settled
        self._takes_all = takes_all
        self._clock = clock
        self._hand: list[Entry] = []
        self._per_request = min(backend.max_events, self._batching.max_events)
        self._most = self._full_round()
        self._allowance = self._most
        self._since = 0.0
        self._rest = rest
        self._looked = float("-inf")
        self._passed = 0  # events delivered so far, to tell a poisonous event from a server that is down
        self._pool: ThreadPoolExecutor | None = None
        self._saved_at = float("-inf")
        self._saved_count = cursor.settled
        self._persist = Persistence(self._retry, self.stopping, self._about_to_wait)

    def _full_round(self) -> int:
        if self._per_request == 1:
            return min(SINGLES, self._batching.max_events)
        return BATCHES

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Deliver until `stopping`; what is not settled by then stays in the journal."""
        while not self.stopping.is_set():
            try:
                self._persist(self._round)
            except RetryableError:
                break  # only once `stopping` is set
            except OSError as error:  # the disk: a cursor or a dead letter could not be written
                self._say(f"spool: {error}")
                self.stopping.wait(IDLE)
        self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        try:
            self._commit()
        except OSError as error:  # what could not be noted is sent again by the next process, under the same ids
            self._say(f"spool: {error}")
        self._cursor.close()

    def _round(self) -> None:
        """Send what is due, settle and commit; RetryableError when the backend wants a pause."""
        if self.stopping.is_set():  # it was set while we waited to try again
            return
        self._obey_quota()
        batch = self._due()
        if not batch:
            self._wait_for_more()
            return
        self.drained.clear()
        with contextlib.suppress(OSError):  # raised after the round, should it still be so: events get on all the same
            self._commit(save=self._is_save_due(len(batch)))
        failure = self._send(batch)
        self._commit(save=failure is not None or self._is_save_due())
        if failure is None:
            self._recover()
            return
        self._slow_down(failure)

    def hurry_up(self, hurry: bool, *, alone: bool, held_up: bool = False, awaited: bool = False) -> None:
        """Whether every batch is due at once, whether nobody is left who could finish an event, whether the rest of one
        can't get into the journal for now, and whether somebody flushes."""
        self._cursor.hurry_up(alone, held_up=held_up)
        (self.prompt.set if hurry or awaited else self.prompt.clear)()
        if hurry:
            self.hurry.set()
            return
        self.hurry.clear()
        self.drained.clear()

    def _obey_quota(self) -> None:
        if self._cursor.position.segment >= self.floor:
            return
        self._cursor.skip_to(self.floor)
        self._hand = [entry for entry in self._hand if entry.outcome is None]
        self._commit()

    def _recover(self) -> None:
        self._allowance = min(self._allowance * 2, self._most)  # after an outage the rate ramps up
        self.state = "delivering"

    def _slow_down(self, failure: RetryableError) -> None:
        moved = self._allowance > 1 and not self._all_failed
        self._allowance = 1  # one probe at a time
        self.in_flight.failed()
        self.last_error = failure.reason
        if moved and failure.retry_after is None and not isinstance(failure, UnauthorisedError):
            return  # others passed: look again with a probe, at once
        raise failure

    def _about_to_wait(self, failure: RetryableError, seconds: float) -> None:
        state = "unauthorised" if isinstance(failure, UnauthorisedError) else "retrying"
        if state != self.state:
            _log.warning("%s: %s; trying again in %.1f s, nothing is lost", self.backend.name, failure.reason, seconds)
        self.state = state
        self.retried += 1
        self._tell_settled()

    def _wait_for_more(self) -> None:
        if not self._hand:
            self.state = "idle"
            self.oldest = None
        self._commit(save=self._is_save_due())
        if self.hurry.is_set() and not self._hand:
            self.drained.set()
        self.wake.wait(self._patience())
        self.prompt.wait(max(0.0, self._looked + self._rest - self._clock()))
        self.wake.clear()
        self._looked = self._clock()

    def _patience(self) -> float:
        """Seconds until something in hand is due, when nothing new comes."""
        due = [entry.not_before if entry.attempts else self._since + self._batching.max_age for entry in self._hand]
        if not self._cursor.is_saved:
            due.append(self._saved_at + UNSAVED)
        return min(max(min(due) - self._clock(), 0.001), IDLE) if due else IDLE

    # -- batch -------------------------------------------------------------------------------------------------------

    def _due(self) -> list[Entry]:
        """What to send now: those that failed and have waited, those that never went, fresh ones."""
        most = self._allowance * self._per_request
        now = self._clock()
        self._hand = [entry for entry in self._hand if entry.outcome is None]
        again = [entry for entry in self._hand if entry.attempts and entry.not_before <= now]
        unsent = [entry for entry in self._hand if not entry.attempts]
        batch = (again + unsent)[:most]
        if len(batch) < most and len(self._hand) < self._most * self._per_request:
            if not unsent:
                self._since = now
            fresh = self._cursor.read(most - len(batch), self._batching.max_bytes * self._allowance)
            self._hand += fresh
            batch += fresh
        if not batch and self._hand and self._failing:
            return [min(self._hand, key=lambda entry: entry.not_before)]
        return batch if again or self._is_due(batch, now) else []

    @property
    def _failing(self) -> bool:
        return self._allowance == 1

    def _is_due(self, batch: list[Entry], now: float) -> bool:
        if self._per_request == 1 or not batch:
            return True
        if len(batch) >= self._per_request or now - self._since >= self._batching.max_age or self.hurry.is_set():
            return True
        if self._cursor.urgent:  # somebody flushes
            self._cursor.urgent = False
            return True
        return sum(len(entry.payload or b"") for entry in batch) >= self._batching.max_bytes

    def _requests(self, batch: list[Entry]) -> Iterator[list[Entry]]:
        """The batch in pieces that one request takes."""
        piece: list[Entry] = []
        size, most = 0, self._per_request
        for entry in batch:
            length = len(entry.payload or b"")
            most = min(most, self._company(entry))
            if piece and (len(piece) >= most or size + length > self._batching.max_bytes):
                yield piece
                piece, size, most = [], 0, self._company(entry)
            piece.append(entry)
            size += length
        if piece:
            yield piece

    def _company(self, entry: Entry) -> int:
        """How many may go in one request with this event: the fewer, the more often it failed while others passed."""
        if entry.attempts and self._passed > entry.passed_then:
            return max(1, self._per_request >> min(entry.attempts, 30))
        return self._per_request

    # -- send --------------------------------------------------------------------------------------------------------

    def _send(self, batch: list[Entry]) -> RetryableError | None:
        """Send the batch, in one or several requests at a time; the failure that counts, when there was one."""
        self._all_failed = True
        self.oldest = None
        failure: RetryableError | None = None
        requests = self._requests(batch)
        running: set[Future[RetryableError | None]] = set()
        try:
            for piece in requests:
                if self.in_flight.size == 1 and not running:
                    failure = _worse(failure, self._request(piece))
                else:
                    running.add(self._threads().submit(self._request, piece))
                while len(running) >= self.in_flight.size:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        failure = _worse(failure, future.result())
                if failure is not None or self.stopping.is_set():
                    break
        finally:
            last = wait(running).done  # also when a dead letter could not be written: nobody else may have these events
        for future in last:
            failure = _worse(failure, future.result())
        return failure

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.backend.max_in_flight, thread_name_prefix=self.backend.name)
        return self._pool

    def _request(self, entries: list[Entry]) -> RetryableError | None:
        """One request, and what follows from its answer; may run in several threads, each with entries of its own."""
        pairs = [(entry, event) for entry in entries if (event := self._event(entry)) is not None]
        if not pairs:
            return None
        return self._deliver(pairs)

    def _event(self, entry: Entry) -> Event | None:
        """The event to send, or None when the entry is settled by this look at it."""
        payload = entry.payload or b""
        try:
            event = unpack(payload, entry.id)
        except UndecodableError as error:
            self._bury(entry, payload, RejectedError(f"undecodable: {error}"))
            return None
        if self._is_elsewhere(event.route):
            self._settle(entry, FILTERED)
            return None
        if self.oldest is None or event.time < self.oldest:
            self.oldest = event.time
        return event

    def _is_elsewhere(self, route: tuple[str, ...] | None) -> bool:
        return not self._takes_all if route is None else self.backend.name not in route

    def _deliver(self, pairs: list[tuple[Entry, Event]]) -> RetryableError | None:
        started, worked = self._clock(), time.thread_time()
        answers = self._ask([event for _, event in pairs])
        refusal = answers[0] if answers else None
        if isinstance(refusal, (RejectedError, TooLargeError)) and all(answer is refusal for answer in answers):
            return self._refused(pairs, refusal)
        failure: RetryableError | None = None
        for (entry, event), answer in zip(pairs, answers, strict=True):
            if answer is None:
                self._settle(entry, DELIVERED)
            else:
                failure = _worse(failure, self._answered(entry, event, answer))
        if failure is None:
            worked = time.thread_time() - worked
            # A thread that encodes a batch is busy, and waits for others that are: more of them would not help.
            self.in_flight.answered(self._clock() - started - 3 * worked)
        return failure

    def _ask(self, events: list[Event]) -> Answers:
        """A backend promises not to raise, and an answer per event. One that breaks that is asked once more, then its
        events are rejected; but what it raises of ours is its answer, and trouble with the network may pass."""
        reason = ""
        for _ in range(2):
            try:
                answers = list(self.backend.send(events))
            except DeliveryError as answer:
                return [answer] * len(events)
            except (OSError, MemoryError) as error:
                return [RetryableError(f"{type(error).__name__} in the backend: {error}")] * len(events)
            except Exception as error:
                reason = f"{type(error).__name__} in the backend: {error}"
                continue
            if len(answers) == len(events) and all(map(_is_answer, answers)):
                return answers
            reason = f"the backend gave {len(answers)} answers for {len(events)} events, or something that is none"
        return [RejectedError(reason)] * len(events)

    def _refused(self, pairs: list[tuple[Entry, Event]], refusal: DeliveryError) -> RetryableError | None:
        """The whole request was refused: find the events that are to blame by halving it."""
        if len(pairs) > 1:
            half = len(pairs) // 2
            return self._deliver(pairs[:half]) or self._deliver(pairs[half:])
        entry, event = pairs[0]
        if isinstance(refusal, TooLargeError):
            return self._send_shorter(entry, event)
        self._bury(entry, event, refusal)
        return None

    def _send_shorter(self, entry: Entry, event: Event) -> RetryableError | None:
        size = len(entry.payload or b"")
        answer = self._ask([cut(event, min(size // 2, CUT))])[0]
        if isinstance(answer, TooLargeError):
            too_large = f"{size} bytes, and too large even when cut: {answer.reason}"
            answer = RejectedError(too_large, status=answer.status, body=answer.body)
        return self._answered(entry, event, answer)

    def _answered(self, entry: Entry, event: Event, answer: DeliveryError | None) -> RetryableError | None:
        if answer is None:
            self._settle(entry, DELIVERED)
            return None
        if isinstance(answer, TooLargeError):
            return self._send_shorter(entry, event)
        if isinstance(answer, RetryableError) and not self._is_poison(entry, answer):
            self._put_off(entry, answer)
            return answer
        self._bury(entry, event, answer)
        return None

    # -- settle ------------------------------------------------------------------------------------------------------

    def _settle(self, entry: Entry, outcome: str) -> None:
        self._cursor.settle(entry, outcome)
        self._all_failed = False
        if outcome == DELIVERED:
            self._passed += 1

    def _put_off(self, entry: Entry, answer: RetryableError) -> None:
        """To be sent again: at its turn, an outage must not change the order, unless it may be the event's fault."""
        now = self._clock()
        if entry.failing_since is None:
            entry.failing_since = now
            entry.passed_then = self._passed
        entry.attempts += 1
        wait = min(self._retry.initial * 2.0 ** min(entry.attempts, 30), self._retry.maximum)
        entry.not_before = now + wait if self._is_suspect(entry, answer) else now

    def _is_suspect(self, entry: Entry, answer: RetryableError) -> bool:
        """Whether others passed while it failed, or it failed so often with an answer that could be about it."""
        if self._passed - entry.passed_then > self.backend.max_in_flight * self._per_request:
            return True
        is_outage = answer.status in OUTAGE or answer.retry_after is not None or isinstance(answer, UnauthorisedError)
        return not is_outage and entry.attempts >= (SUSPECT if answer.status is not None else 3 * SUSPECT)

    def _is_poison(self, entry: Entry, answer: RetryableError) -> bool:
        """Whether this event alone fails, again and again, while others pass."""
        if isinstance(answer, UnauthorisedError) or answer.retry_after is not None or answer.status in (429, 503):
            return False
        if entry.failing_since is None or entry.attempts < POISON_ATTEMPTS:
            return False
        waited = self._clock() - entry.failing_since
        return waited >= self._retry.poison_after and self._passed - entry.passed_then >= POISON_PASSED

    def _bury(self, entry: Entry, event: Event | bytes, error: DeliveryError) -> None:
        self._dead.bury(entry.id, event, error)
        self._settle(entry, DEAD)
        self._say(f"an event became a dead letter: {error.reason}")

    def _say(self, what: str) -> None:
        self.last_error = what
        _log.warning("%s: %s", self.backend.name, what)

    def _is_save_due(self, coming: int = 0) -> bool:
        """Single events are saved some at a time: a crash sends no more of them again than may be under way at once,
        or are of one round."""
        if self._per_request > 1 or self.hurry.is_set():
            return True
        unsaved = self._cursor.settled - self._saved_count + coming
        return unsaved >= self.backend.max_in_flight or self._clock() - self._saved_at >= UNSAVED

    def _commit(self, *, save: bool = True) -> None:
        self._cursor.commit(save=save)
        if self._cursor.is_saved and self.durable != self._cursor.position:
            self.durable = self._cursor.position
            self._saved_at = self._clock()
            self._saved_count = self._cursor.settled
        if self.position == self._cursor.position and self.settled_count == self._cursor.settled:
            return
        self.position = self._cursor.position
        self.settled_count = self._cursor.settled
        self.counts = dict(self._cursor.counts)
        self.dropped = {reason: dict(levels) for reason, levels in self._cursor.dropped.items()}
        self._tell_settled()


def _is_answer(answer: object) -> bool:
    return answer is None or isinstance(answer, DeliveryError)


def _worse(one: RetryableError | None, other: RetryableError | None) -> RetryableError | None:
    """Of two failures the one to obey: refused credentials before anything, else the longer Retry-After."""
    if one is None or other is None:
        return one or other
    if isinstance(one, UnauthorisedError) != isinstance(other, UnauthorisedError):
        return one if isinstance(one, UnauthorisedError) else other
    return one if (one.retry_after or 0.0) >= (other.retry_after or 0.0) else other
