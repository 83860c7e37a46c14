"""A circuit breaker around a function of the application that is called for every event."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

SLOW_SECONDS = 1.0  # a call that takes this long is slow
PAUSE_FACTOR = 10.0  # the circuit stays open for this many times the last call's duration ...
MAX_PAUSE_SECONDS = 60.0  # ... and no longer than this

P = ParamSpec("P")
R = TypeVar("R")


class CircuitOpen(Exception):
    """The function was not called, because it has been slow."""


class CallbackGuard(Generic[P, R]):
    """Calls `function`; after two slow calls in a row, raises CircuitOpen instead for a while.

    A call is slow when it takes a second or more. The circuit stays open for 10 times as long as the last call took, at
    most 60 s; ``on_open(took, pause)`` is called with both, in seconds. Then one call tries again: if it is slow, the
    circuit opens once more, otherwise it closes.

    A single slow call, or several at the same time, may only mean that the process was stopped or swapped out: a call
    counts as the next in a row only if it began after the last slow one had ended. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        function: Callable[P, R],
        on_open: Callable[[float, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._function = function
        self._on_open = on_open
        self._clock = clock
        # Plain values without a lock: a logging call must not wait for another one, nor a forked child for its parent.
        # Threads that read them at the same moment may both try again, which costs a call and no event.
        self._slow_until: float | None = None  # end of the last slow call; None after a call that was not slow
        self._closes_at: float | None = None  # when a call tries again; None while the circuit is closed

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        began = self._clock()
        if self._closes_at is not None:
            self._try_again(began)
        try:
            return self._function(*args, **kwargs)
        finally:
            ended = self._clock()
            if self._slow_until is not None or ended - began >= SLOW_SECONDS:
                self._record_call(began, ended)

    def _try_again(self, now: float) -> None:
        closes_at = self._closes_at
        if closes_at is None:
            return
        if now < closes_at:
            raise CircuitOpen("it was slow, and is not called for a while")
        self._closes_at = now + MAX_PAUSE_SECONDS  # other threads do not call meanwhile

    def _record_call(self, began: float, ended: float) -> None:
        took, last = ended - began, self._slow_until
        if last is not None and began < last:
            return  # it ran at the same time as a slow call, so it is not the next in a row
        if took < SLOW_SECONDS:
            self._slow_until = self._closes_at = None
            return
        self._slow_until = ended
        if last is None:
            return
        pause = min(PAUSE_FACTOR * took, MAX_PAUSE_SECONDS)
        self._closes_at = ended + pause
        self._on_open(took, pause)
