"""A function of the application, called for every event, that is left alone for a while when it is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

SLOW = 1.0  # seconds of one call
REST = 10.0  # times as long as the last call took ...
LONGEST_REST = 60.0  # ... but at most so many seconds

P = ParamSpec("P")
R = TypeVar("R")


class CircuitOpen(Exception):
    """It was not called: it has been slow."""


class CallbackGuard(Generic[P, R]):
    """`function`, called as it is, until two calls in a row have taken a second or more: then each call is a
    CircuitOpen for 10 times as long as the last one took (60 s at most), and ``slow`` hears how long both are. After
    that one call tries again: slow, it closes the hook once more; quick, it opens it.

    One slow call alone may be a process that was stopped, or swapped out, and so may several at the same time: a call
    is the next one in a row only when it began after the last had ended. ``clock`` is in seconds, and never jumps.
    """

    def __init__(
        self,
        function: Callable[P, R],
        slow: Callable[[float, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._function = function
        self._slow = slow
        self._clock = clock
        # Plain values without a lock: a logging call must not wait for another one, nor a forked child for its parent.
        # Threads that look at the same moment may try twice, which costs a call and no event.
        self._slow_until: float | None = None  # when the last call that was slow ended; None once one was quick
        self._opens: float | None = None  # when it is tried again; None while it is open

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        began = self._clock()
        if self._opens is not None:
            self._try_again(began)
        try:
            return self._function(*args, **kwargs)
        finally:
            ended = self._clock()
            if self._slow_until is not None or ended - began >= SLOW:
                self._note(began, ended)

    def _try_again(self, now: float) -> None:
        opens = self._opens
        if opens is None:
            return
        if now < opens:
            raise CircuitOpen("it has been slow, and is left alone for a while")
        self._opens = now + LONGEST_REST  # for everybody else, while this call tries

    def _note(self, began: float, ended: float) -> None:
        took, last = ended - began, self._slow_until
        if last is not None and began < last:
            return  # at the same time as one that was slow, and no other than that one
        if took < SLOW:
            self._slow_until = self._opens = None
            return
        self._slow_until = ended
        if last is None:
            return
        rest = min(REST * took, LONGEST_REST)
        self._opens = ended + rest
        self._slow(took, rest)
