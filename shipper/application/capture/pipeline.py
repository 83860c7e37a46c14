"""What all handlers of a process share: event → change, mask, pack → queue, in the thread that logs."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..._support.unpatched import new_rlock
from ...event.model import Event
from ...event.redact import Redact, Redactor
from ...event.truncate import pack
from ..stderr import warn_on_stderr, warn_once_on_stderr
from .callback_guard import CallbackGuard, CircuitOpen, P, R
from .fast_path import build_fast_packer

if TYPE_CHECKING:
    from ...transport.producer import Producer

BeforeSend = Callable[[Event], "Event | None"]
Context = Callable[[], Mapping[str, object]]
MAX_EARLY_EVENTS = 1000  # kept from before start()
SUSPICIOUS_NONES = 10  # that `before_send` returns before its first event


class Callbacks(NamedTuple):
    """The application's own functions: `before_send` gets every event, `context` is called for every record."""

    before_send: BeforeSend | None = None
    context: Context | None = None


class Pipeline:
    """Ships events to `queue`. ``names``: the backends that `start` was given; they get the events without a route."""

    def __init__(
        self,
        queue: Producer,
        names: tuple[str, ...] = (),
        *,
        redact: Redact | None = None,
        callbacks: Callbacks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue = queue
        self.names = names
        self.callbacks = callbacks or Callbacks()
        before_send, context = self.callbacks
        self.context = _guard(context, "`context` is slow, events go out without it for a while", clock)
        self._has_returned_event = False  # whether `before_send` ever has
        self._nones_returned = itertools.count(1)  # by `before_send` until then
        self._before_send = _guard(before_send, "`before_send` is slow, events are dropped for a while", clock)
        warning = "`Redact.patterns` are slow, events are dropped for a while"
        self._redactor = Redactor(redact or Redact(), lambda patterns: _guarded(patterns, warning, clock))
        needs_event = self._before_send is not None or self.context is not None
        self.pack_fast = build_fast_packer(self._redactor) if names and not needs_event else None
        self.shipped_to = (queue.path, names)
        """The value of `handler.SHIPPED` on a record that took the fast path."""

    def enqueue(self, event: Event, *, is_sanitized: bool = False) -> bool:
        """Pass one event to `before_send`, mask, pack and queue it; False when it was dropped, which is counted.

        ``is_sanitized`` says that the event is as `from_record` made it, plain data only. Never raises.
        """
        level = event.level
        payload = self.pack(event, is_sanitized=is_sanitized)
        return payload is not None and self.enqueue_packed(payload, level)

    def enqueue_packed(self, payload: bytes, level: int) -> bool:
        """Queue the bytes of one event; False when it was dropped, which is counted."""
        # start() may have replaced this pipeline since the caller read it.
        pipeline = active.pipeline if self.queue.closed and active.pipeline is not None else self
        try:
            pipeline.queue.put_sequence(payload, level)
        except queue.Full as full:
            warn_full(full)
            return False
        return True

    def pack(self, event: Event, *, is_sanitized: bool = False) -> bytes | None:
        """The event's bytes as they may leave the application; None when it was dropped, which is counted."""
        reason = "before_send"
        try:
            changed = event if self._before_send is None else self._checked(self._before_send(event))
            if changed is None:
                self.queue.drop(reason, event.level)
                return None
            reason = "redact"
            self._redactor(changed, is_sanitized=is_sanitized and self._before_send is None)
            reason = "failed"
            return pack(changed)
        except CircuitOpen:
            self.queue.drop(reason, event.level)
        except Exception as error:  # never shipped unmasked
            self.queue.drop(reason, event.level)
            warn_on_stderr(f"an event was dropped ({reason})", repr(error))
        return None

    def _checked(self, changed: object) -> Event | None:
        """Return what `before_send` returned. TypeError when that is neither an event nor None."""
        if isinstance(changed, Event):
            self._has_returned_event = True
            return changed
        if changed is not None:
            raise TypeError(f"before_send returned {type(changed).__name__}, and neither the event nor None")
        if not self._has_returned_event and next(self._nones_returned) == SUSPICIOUS_NONES:
            warn_once_on_stderr(
                f"before_send has returned None for the first {SUSPICIOUS_NONES} events, which drops them: does it "
                "end without `return event`?"
            )
        return None


def _guard(function: Callable[P, R] | None, warning: str, clock: Callable[[], float]) -> Callable[P, R] | None:
    return None if function is None else _guarded(function, warning, clock)


def _guarded(function: Callable[P, R], warning: str, clock: Callable[[], float]) -> Callable[P, R]:
    """The function with a circuit breaker around it: logging calls do not wait for a slow one again and again."""

    def warn(took: float, pause: float) -> None:
        warn_on_stderr(warning, f"it took {took:.1f} s, and is tried again in {pause:.0f} s")

    return CallbackGuard(function, warn, clock=clock)


def warn_full(full: queue.Full) -> None:
    warn_on_stderr(f"events are dropped ({full}); `shipper status` counts them")


class _Active:
    """The pipeline of this process, once `start` was called. Read without a lock at every record."""

    pipeline: Pipeline | None = None


active = _Active()


def set_pipeline(pipeline: Pipeline | None) -> None:
    """Make all handlers of this process use this pipeline from now on; events from before `start` go first."""
    active.pipeline = pipeline
    if pipeline is not None and pipeline.names:
        early_events.ship(pipeline)


class EarlyEvents:
    """Events from before `start`, at most `MAX_EARLY_EVENTS`; the others are counted as ``not_started``."""

    def __init__(self) -> None:
        self._new = 0  # kept by this process and not shipped: a forked child inherits its parent's events
        self._events: deque[Event] = deque()
        self._dropped: dict[int, list[int]] = {}  # level → [count]: a list, since a signal handler may count too
        self._lock = new_rlock()

    def keep(self, event: Event) -> None:
        with self._lock:
            self._new += 1
            is_kept = len(self._events) < MAX_EARLY_EVENTS
            if is_kept:
                self._events.append(event)
            else:
                self._dropped.setdefault(event.level, [0])[0] += 1
        if not is_kept:
            warn_on_stderr(f"events from before shipper.start() are dropped: there are more than {MAX_EARLY_EVENTS}")
        pipeline = active.pipeline
        if pipeline is not None and pipeline.names:  # start() was called meanwhile
            self.ship(pipeline)

    def ship(self, pipeline: Pipeline) -> None:
        with self._lock:
            self._new = 0
            dropped, self._dropped = self._dropped, {}
        with contextlib.suppress(IndexError):  # another thread may do the same
            while True:
                pipeline.enqueue(self._events.popleft())
        for level, (count,) in dropped.items():
            for _ in range(count):
                pipeline.queue.drop("not_started", level)

    def warn_unshipped(self) -> None:
        """Warn, at the end of a process without `start`, of the records that were not shipped."""
        new, self._new = self._new, 0
        if new:
            warn_on_stderr(
                f"{new} records were logged to shipper.QueueHandler and not shipped, because shipper.start() was never "
                "called; call it when logging is configured"
            )

    def discard(self) -> None:
        """Forget all events: this process only inspects how an application logs."""
        self._events.clear()
        self._dropped.clear()
        self._new = 0

    def forget_parents(self) -> None:
        """Reset a forked child: it warns of its own records only, and a thread of its parent may have held the lock."""
        self._new = 0
        self._lock = new_rlock()


early_events = EarlyEvents()
os.register_at_fork(after_in_child=early_events.forget_parents)
