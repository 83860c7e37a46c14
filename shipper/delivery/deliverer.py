"""Delivers events from one cursor to one backend: batch, send, settle, commit.

Invariants:

* An event is settled once: delivered, filtered, a dead letter, or counted as lost. Until then it stays in the journal.
* The cursor never passes an event that is not settled. After a crash the events behind it are sent again, under the
  same ids: those of one round or, of several small rounds of single events, at most as many as may be under way.
* Only an event that is itself to blame (`blame/`) becomes a dead letter, which is written before the event is settled.
* A backend that is slow, down or refuses events delays no other one: each has a deliverer, a thread and a cursor.

The deliverer's thread writes the cursor's file `cursors/<backend>.json`; so does the main thread when the quota gives
up segments (`checkpoint.py`). Request threads write dead letters only. The next shipper process, applications and
`report.py` read the cursor's file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from ..config.limits import Batching, Retry
from ..errors import RetryableError, UnauthorisedError
from ..journal.segments import Position
from .batcher import Batcher
from .blame.failures import Failures
from .blame.refusals import Refusals
from .checkpoint import Checkpoint, Progress
from .cursor import Cursor
from .dispatcher import Backend, DeadLetters, Dispatcher
from .health import Health
from .lending.lending import Lending
from .pause import Pause
from .retry import Retrier

UNFINISHED_SECONDS = 1.0  # between two looks at an event at the journal's end that is not whole
COLLECT_SECONDS = 0.04  # between two reads while no flush waits, so that one read takes several events
DISK_RETRY_SECONDS = 1.0  # before a disk that took nothing is tried again


class Deliverer:
    """Delivers what its cursor reads to its backend, until `stopping` is set. `run` is its thread.

    ``on_settled`` is called when events were settled and when a wait before a retry begins. Unless ``takes_all``, only
    events whose route names the backend are sent; others are filtered. ``collect_seconds``: see `COLLECT_SECONDS`.

    Set `wake` after every append to the journal. `drained` is set while draining, once nothing is left to send now and
    no event waits for the rest of its frames.
    """

    def __init__(
        self,
        cursor: Cursor,
        backend: Backend,
        dead_letters: DeadLetters,
        *,
        batching: Batching | None = None,
        retry: Retry | None = None,
        on_settled: Callable[[], None] = lambda: None,
        takes_all: bool = True,
        collect_seconds: float = COLLECT_SECONDS,
        lending: Lending | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        batching, retry = batching or Batching(), retry or Retry()
        self.name = backend.name
        self.health = Health(backend.name, clock=wall_clock)
        self.stopping = threading.Event()
        self.wake = threading.Event()
        self.drained = threading.Event()
        self._mode: tuple[object, ...] = (False, None, False, False, False)
        self._draining = threading.Event()
        self.pause = Pause(self.wake, self.stopping, self._draining, self.drained)
        self._flush_waiting = threading.Event()
        self._on_settled = on_settled
        self._collect_seconds = collect_seconds
        self._lending = lending
        self._clock = clock
        self._looked_at = float("-inf")
        self._retrier = Retrier(retry)
        parallel_events = backend.max_in_flight * min(backend.max_events, batching.max_events)
        failures = Failures(retry, Refusals(), parallel_events=parallel_events, clock=clock)
        max_unsaved = backend.max_in_flight if backend.max_events == 1 or batching.max_events == 1 else 0
        self._checkpoint = Checkpoint(cursor, max_unsaved=max_unsaved, on_progress=on_settled, clock=clock)
        self._batcher = Batcher(self._checkpoint, failures, batching, max_events=backend.max_events, clock=clock)
        self._dispatcher = Dispatcher(
            backend,
            failures,
            dead_letters,
            self._checkpoint.settle,
            takes_all=takes_all,
            warn=self.health.warn,
            clock=clock,
        )
        self.latency = self._dispatcher.latency

    @property
    def progress(self) -> Progress:
        """How far the backend has come, as of the last commit."""
        return self._checkpoint.progress

    @property
    def requests_in_flight(self) -> int:
        """The most requests that are sent at the same time now."""
        return self._dispatcher.concurrency.size

    @property
    def has_backlog(self) -> bool:
        """Whether the last batch was full, or a part of the backlog is lent; False while paused."""
        is_lent = self._lending is not None and self._lending.is_on
        return not self.pause.is_on and (self._batcher.was_full or is_lent)

    # -- set by the main thread --------------------------------------------------------------------------------------

    def set_drain_mode(
        self,
        draining: bool,
        *,
        final_to: Position | None,
        disk_blocked: bool = False,
        quota_reached: bool = False,
        flush_waiting: bool = False,
    ) -> None:
        """Begin or end ``draining``: delivering what is left as soon as possible.

        ``final_to``: no process is left that could finish an event which begins before this place in the journal.
        ``disk_blocked``, ``quota_reached``: the rest of an event may be kept out of the journal for now.
        ``flush_waiting``: a process waits for its events to be settled.
        """
        mode = (draining, final_to, disk_blocked, quota_reached, flush_waiting)
        if mode != self._mode or disk_blocked or quota_reached:  # repeated, because these two expire
            self._checkpoint.set_drain_mode(final_to=final_to, disk_blocked=disk_blocked, quota_reached=quota_reached)
        if mode == self._mode:
            return
        self._mode = mode
        _set(self._flush_waiting, draining or flush_waiting)
        _set(self._draining, draining)
        if not draining:
            self.drained.clear()
        self.pause.note_drain()

    @property
    def waits_for_rest(self) -> bool:
        """Whether only events with missing frames, at least one, are left to settle."""
        return self._checkpoint.waits_for_rest

    def give_up_before(self, segment: int) -> None:
        """Settle the events before a segment as lost to the quota, at once. OSError when that can't be saved now."""
        self._checkpoint.give_up_before(segment)

    def stop(self) -> None:
        """End `run` after the requests under way. What is not settled by then stays in the journal."""
        self.stopping.set()
        self.pause.interrupt()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Deliver until `stopping` is set."""
        while not self.stopping.is_set():
            try:
                failure = self.deliver_once()
            except OSError as error:  # a cursor or a dead letter could not be written
                self.health.warn(f"spool: {error}")
                self.stopping.wait(DISK_RETRY_SECONDS)
                continue
            if failure is not None:
                self._back_off(failure)
        self._end()

    def _end(self) -> None:
        self._dispatcher.close()
        try:
            self._checkpoint.commit()
        except OSError as error:  # what could not be saved is sent again by the next process, under the same ids
            self.health.warn(f"spool: {error}")
        self._checkpoint.close()

    def deliver_once(self) -> RetryableError | None:
        """Send what is due, settle and commit; return the failure when the next attempt has to wait.

        Waits when nothing is due or the backend is paused. OSError when the disk did not take a cursor or dead letter.
        """
        if self.pause.is_on:
            if self._lending is not None:
                self._lending.end(self._checkpoint)
            self._checkpoint.commit()
            self.pause.hold()
            return None
        is_lent = self._lending is not None and self._send_lent(self._lending)
        batch = self._batcher.take(at_once=self._draining.is_set())
        if not batch:
            if not is_lent:
                self._wait_for_events()
            return None
        self.drained.clear()
        with contextlib.suppress(OSError):  # the commit after the round raises it if it persists
            self._checkpoint.commit(save=self._is_save_due(len(batch)))
        outcome = self._dispatcher.send(self._batcher.requests(batch), is_stopping=self.pause.forbids_sending)
        self.health.oldest = outcome.oldest
        self._checkpoint.commit(save=outcome.failure is not None or self._is_save_due())
        if outcome.failure is None:
            self._recovered()
            return None
        return self._failed(outcome.failure, settled_any=outcome.settled_any)

    def _send_lent(self, lending: Lending) -> bool:
        """Send requests that another process has encoded; whether a part is lent, and only errors are read here."""
        is_stopping = self.pause.forbids_sending
        if lending.deliver(self._checkpoint, self._batcher, self._dispatcher, is_stopping=is_stopping):
            self.health.oldest = lending.oldest
            self._recovered()
        return lending.is_on

    def _is_save_due(self, coming: int = 0) -> bool:
        return self._draining.is_set() or self._checkpoint.is_save_due(coming)

    def _wait_for_events(self) -> None:
        if self._batcher.is_empty:
            self.health.set_idle()
        # A flush ends when all is saved: the kernel may kill this process in the next moment, with its container.
        self._checkpoint.commit(save=self._flush_waiting.is_set() or self._is_save_due())
        _set(self.drained, self._draining.is_set() and self._batcher.is_empty and not self.waits_for_rest)
        self.wake.wait(self._seconds_until_due())
        self._flush_waiting.wait(max(0.0, self._looked_at + self._collect_seconds - self._clock()))
        self.wake.clear()
        self._looked_at = self._clock()

    def _seconds_until_due(self) -> float | None:
        """How long to wait for `wake`; None when nothing is due without it."""
        due = [at for at in (self._batcher.next_due_at(), self._checkpoint.save_due_at()) if at is not None]
        seconds = max(min(due) - self._clock(), 0.001) if due else None
        if not self._checkpoint.is_waiting:
            return seconds
        return UNFINISHED_SECONDS if seconds is None else min(seconds, UNFINISHED_SECONDS)

    # -- failures ----------------------------------------------------------------------------------------------------

    def _recovered(self) -> None:
        self._retrier.succeeded()
        self._batcher.ramp_up()
        self.health.set_delivering()

    def _failed(self, failure: RetryableError, *, settled_any: bool) -> RetryableError | None:
        some_accepted = settled_any and not self._batcher.is_probing
        self._batcher.probe()
        self._dispatcher.concurrency.failed()
        self.health.note_failure(failure)
        if some_accepted and failure.retry_after is None and not isinstance(failure, UnauthorisedError):
            self._retrier.succeeded()
            return None  # the backend is up: probe it again at once
        return failure

    def _back_off(self, failure: RetryableError) -> None:
        seconds = self._retrier.seconds_after(failure)
        self.health.set_waiting(failure, seconds)
        self._on_settled()
        if self.pause.wait(seconds):
            self._retrier.succeeded()  # a command or `stop` ended it: the next waits are short again


def _set(event: threading.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()
