"""Sends a batch, in one or several requests at a time, and settles each event by its answer.

A request that is refused as a whole is sent in halves until the events to blame are found. A single event that is too
large is sent once more, shortened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import (
    DeliveryError,
    PartlyRejectedError,
    RejectedError,
    RetryableError,
    TooLargeError,
    UndecodableError,
)
from ..event.codec import unpack
from ..event.model import Event, EventId
from ..event.truncate import cut
from ..journal.entry import DEAD, DELIVERED, FILTERED, REFUSED_BY_RECEIVER, Entry
from .blame.failures import Failures, dominant_failure
from .blame.refusals import BadEventError, Blame, RefusesAllError
from .concurrency import Concurrency
from .latency import Latency
from .routing import is_routed_elsewhere

if TYPE_CHECKING:
    from .lending.part import Request, Send

SHORTENED_BYTES = 32 * 1024  # to which a single event is cut, at most, when a server finds it too large
ATTEMPTS_TO_ENCODE = 2  # calls that raise or return something invalid before the events are rejected

Answers = Sequence["DeliveryError | None"]


class Backend(Protocol):
    """What delivery needs of a backend; `backends.protocol.Backend` is the whole interface."""

    @property
    def name(self) -> str: ...
    @property
    def max_events(self) -> int: ...
    @property
    def max_in_flight(self) -> int: ...
    def send(self, events: Sequence[Event]) -> Answers: ...


class DeadLetters(Protocol):
    """Where rejected events are kept: `dead.writer` in the spool, `relay.dead_letters` in a stream."""

    def write(self, id: EventId, event: Event | bytes, error: DeliveryError, /) -> None:
        """Keep one dead letter. OSError when that is not possible now."""
        ...


class Outcome(NamedTuple):
    """How a batch went."""

    failure: RetryableError | None  # the failure that decides how long to wait, if there was one
    settled_any: bool
    oldest: float | None  # time of the oldest event in it, seconds since the epoch


class Dispatcher:
    """Sends batches to one backend. `send` is called by one thread; the requests of a batch may run in several.

    Unless ``takes_all``, only events whose route names the backend are sent, and all others are filtered.
    ``settle`` notes what became of an event; ``dead_letters`` keeps those that are rejected.
    """

    def __init__(
        self,
        backend: Backend,
        failures: Failures,
        dead_letters: DeadLetters,
        settle: Callable[[Entry, str], None],
        *,
        takes_all: bool,
        warn: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self.concurrency = Concurrency(backend.max_in_flight, initial=getattr(backend, "initial_in_flight", 1))
        self.latency = Latency()
        self._backend = backend
        self._failures = failures
        self._dead_letters = dead_letters
        self._settle_entry = settle
        self._takes_all = takes_all
        self._warn = warn
        self._clock = clock
        self._threads: ThreadPoolExecutor | None = None
        self._settled_any = False
        self._oldest: float | None = None

    def close(self) -> None:
        """Wait for the requests under way."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    def send(self, requests: Iterable[list[Entry]], *, is_stopping: Callable[[], bool]) -> Outcome:
        """Send these requests until one fails or ``is_stopping()``, and wait for those under way.

        OSError when the disk did not take a dead letter.
        """
        self._settled_any, self._oldest = False, None
        failure: RetryableError | None = None
        running: set[Future[RetryableError | None]] = set()
        try:
            for entries in requests:
                if self.concurrency.size == 1 and not running:
                    failure = dominant_failure(failure, self._send_request(entries))
                else:
                    running.add(self._pool().submit(self._send_request, entries))
                while len(running) >= self.concurrency.size:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    failure = _dominant(failure, done)
                if failure is not None or is_stopping():
                    break
        finally:
            done = wait(running).done  # after an OSError too: nothing may be sent twice at the same time
        return Outcome(_dominant(failure, done), self._settled_any, self._oldest)

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._backend.max_in_flight, thread_name_prefix=self._backend.name)
        return self._threads

    def _send_request(self, entries: list[Entry]) -> RetryableError | None:
        pairs = [(entry, event) for entry in entries if (event := self._event(entry)) is not None]
        return self._deliver(pairs) if pairs else None

    def _event(self, entry: Entry) -> Event | None:
        """The event to send, or None when there is nothing to send and the entry is settled."""
        payload = entry.payload or b""
        if entry.outcome is not None:  # given up by the quota meanwhile
            return None
        try:
            event = unpack(payload, entry.id)
        except UndecodableError as error:
            self._dead_letter(entry, payload, BadEventError(f"undecodable: {error}"))
            return None
        event.origin = entry.origin
        if is_routed_elsewhere(event.route, self._backend.name, takes_all=self._takes_all):
            self._settle(entry, FILTERED)
            return None
        if self._oldest is None or event.time < self._oldest:
            self._oldest = event.time
        return event

    def send_encoded(self, request: Request, send: Send) -> bool:
        """Send a request that another process has encoded; whether it was accepted."""
        started = self._clock()
        refusal = send(request.headers, request.body)
        seconds = self._clock() - started
        self.latency.observe(seconds, request.size)
        if refusal is not None:
            return False
        self.concurrency.answered(seconds)
        self._failures.refusals.note_others_accepted(request.counts.get(DELIVERED, 0))
        return True

    def settle_accepted(self, entry: Entry) -> None:
        """Settle an event of a request that was accepted."""
        if self._event(entry) is not None:
            self._settle(entry, DELIVERED)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _deliver(self, pairs: Sequence[tuple[Entry, Event]]) -> RetryableError | None:
        started, worked = self._clock(), time.thread_time()
        answers = self._answers([event for _, event in pairs])
        self.latency.observe(self._clock() - started, sum(len(entry.payload or b"") for entry, _ in pairs))
        refusal = answers[0] if answers else None
        if isinstance(refusal, (RejectedError, TooLargeError)) and all(answer is refusal for answer in answers):
            return self._deliver_halves(pairs, refusal)
        if isinstance(refusal, PartlyRejectedError) and all(answer is refusal for answer in answers):
            self._settle_partly_rejected(pairs, refusal)
            return None
        failure: RetryableError | None = None
        for (entry, event), answer in zip(pairs, answers, strict=True):
            failure = dominant_failure(failure, self._apply(entry, event, answer))
        if failure is None:
            worked = time.thread_time() - worked
            # 3 × CPU time is taken off, for encoding and for waiting for threads that encode: more would not help.
            self.concurrency.answered(self._clock() - started - 3 * worked)
        return failure

    def _answers(self, events: list[Event]) -> Answers:
        """Return one answer per event, whatever the backend raises or returns.

        A DeliveryError that it raises is the answer; an OSError or MemoryError becomes a RetryableError. After any
        other exception or an invalid result it is called once more, then the events are rejected.
        """
        reason = ""
        for _ in range(ATTEMPTS_TO_ENCODE):
            try:
                answers = list(self._backend.send(events))
            except DeliveryError as answer:
                return [answer] * len(events)
            except (OSError, MemoryError) as error:
                return [RetryableError(f"{type(error).__name__} in the backend: {error}")] * len(events)
            except Exception as error:
                reason = f"{type(error).__name__} in the backend: {error}"
                continue
            if len(answers) == len(events) and all(map(_is_answer, answers)):
                return answers
            reason = f"the backend gave {len(answers)} answers for {len(events)} events, or values of another type"
        return [RejectedError(reason)] * len(events)

    def _deliver_halves(self, pairs: Sequence[tuple[Entry, Event]], refusal: DeliveryError) -> RetryableError | None:
        """The whole request was refused: find the events that are to blame."""
        if len(pairs) == 1:
            return self._apply(*pairs[0], refusal)
        half = len(pairs) // 2
        return self._deliver(pairs[:half]) or self._deliver(pairs[half:])

    def _settle_partly_rejected(self, pairs: Sequence[tuple[Entry, Event]], answer: PartlyRejectedError) -> None:
        """Count the rejected events as lost: the last of the request, since it is not known which they are."""
        accepted = max(len(pairs) - answer.rejected, 0)
        for place, (entry, _) in enumerate(pairs):
            self._settle(entry, DELIVERED if place < accepted else REFUSED_BY_RECEIVER)
        self._warn(answer.reason)

    def _apply(self, entry: Entry, event: Event, answer: DeliveryError | None) -> RetryableError | None:
        """Settle an event by its answer, or put it off; return the failure when sending has to pause."""
        if answer is None:
            self._settle(entry, DELIVERED)
            return None
        if isinstance(answer, TooLargeError):
            return self._send_shortened(entry, event)
        if isinstance(answer, PartlyRejectedError):
            self._settle_partly_rejected([(entry, event)], answer)
            return None
        if isinstance(answer, RetryableError) and not self._failures.is_poison(entry, answer):
            self._failures.put_off(entry, answer)
            return answer
        if isinstance(answer, RejectedError) and not isinstance(answer, BadEventError):
            return self._refused(entry, event, answer)
        self._dead_letter(entry, event, answer)
        return None

    def _refused(self, entry: Entry, event: Event, answer: RejectedError) -> RetryableError | None:
        blame = self._failures.refusals.note_refused(entry)
        if blame is Blame.BACKEND:
            return RefusesAllError(answer.reason, status=answer.status, body=answer.body)
        if blame is Blame.EVENT:
            self._dead_letter(entry, event, answer)
        return None

    def _send_shortened(self, entry: Entry, event: Event) -> RetryableError | None:
        size = len(entry.payload or b"")
        answer = self._answers([cut(event, min(size // 2, SHORTENED_BYTES))])[0]
        if isinstance(answer, TooLargeError):
            reason = f"{size} bytes, and too large even when cut: {answer.reason}"
            kind = BadEventError if size > SHORTENED_BYTES else RejectedError
            answer = kind(reason, status=answer.status, body=answer.body)
        return self._apply(entry, event, answer)

    def _settle(self, entry: Entry, outcome: str) -> None:
        self._settle_entry(entry, outcome)
        self._settled_any = True
        if outcome == DELIVERED:
            self._failures.refusals.note_accepted(entry)

    def _dead_letter(self, entry: Entry, event: Event | bytes, error: DeliveryError) -> None:
        id = event.id if isinstance(event, Event) else None  # of a replayed event: its frames have another one
        self._dead_letters.write(id or entry.id, event, error)
        self._settle(entry, DEAD)
        self._warn(f"an event became a dead letter: {error.reason}")


def _is_answer(answer: object) -> bool:
    return answer is None or isinstance(answer, DeliveryError)


def _dominant(failure: RetryableError | None, done: Iterable[Future[RetryableError | None]]) -> RetryableError | None:
    for future in done:
        failure = dominant_failure(failure, future.result())
    return failure
