"""When to send again; the only room that knows tenacity."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.wait import wait_base

from ..config.limits import Retry
from ..errors import RetryableError, UnauthorisedError

T = TypeVar("T")
Waiting = Callable[[RetryableError, float], None]
"""Told before each wait: why, and for how many seconds."""


class _Wait(wait_base):
    """Full jitter; a longer Retry-After wins, up to its cap; refused credentials wait their own, long time."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._jitter = wait_random_exponential(multiplier=retry.initial, max=retry.maximum)

    def __call__(self, retry_state: RetryCallState) -> float:
        outcome = retry_state.outcome
        error = outcome.exception() if outcome is not None else None
        if isinstance(error, UnauthorisedError):
            return max(self._retry.unauthorised, self._after(error))
        wait = self._jitter(retry_state)
        return max(wait, self._after(error)) if isinstance(error, RetryableError) else wait

    def _after(self, error: RetryableError) -> float:
        return min(error.retry_after or 0.0, self._retry.max_retry_after)


class Persistence:
    """Calls something until it no longer raises RetryableError, or `stopping` is set; then that error is raised."""

    def __init__(self, retry: Retry, stopping: threading.Event, waiting: Waiting) -> None:
        self._waiting = waiting
        self._retrying = Retrying(
            retry=retry_if_exception_type(RetryableError),
            wait=_Wait(retry),
            stop=stop_when_event_set(stopping),
            sleep=sleep_using_event(stopping),
            before_sleep=self._tell,
            reraise=True,
        )

    def __call__(self, attempt: Callable[[], T]) -> T:
        return self._retrying(attempt)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, RetryableError) and state.next_action is not None:
            self._waiting(error, state.next_action.sleep)
