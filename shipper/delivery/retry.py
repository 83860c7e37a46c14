"""How long to wait before sending again. The only module that imports tenacity.

The wait is random between 0 and a bound that doubles with every failure in a row (full jitter). A longer
``Retry-After`` wins, up to its own bound. While credentials are refused the wait is `Retry.unauthorised`, because only
a person can correct them. While the backend refuses everything, the bound grows up to that.
"""

from __future__ import annotations

from tenacity import RetryCallState, Retrying, wait_random_exponential

from ..config.limits import Retry
from ..errors import RetryableError, UnauthorisedError
from .blame.refusals import RefusesAllError


class Retrier:
    """Counts failures in a row, and says how many seconds to wait after each one. Not for use by several threads."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._outage = wait_random_exponential(multiplier=retry.initial, max=retry.maximum)
        self._refused = wait_random_exponential(multiplier=retry.initial, max=retry.unauthorised)
        self._retrying = Retrying()
        self._failures = 0

    def succeeded(self) -> None:
        """Count failures from 0 again."""
        self._failures = 0

    def seconds_after(self, failure: RetryableError) -> float:
        """Count one more failure in a row; return the seconds to wait before the next attempt."""
        self._failures += 1
        retry_after = min(failure.retry_after or 0.0, self._retry.max_retry_after)
        if isinstance(failure, UnauthorisedError):
            return max(self._retry.unauthorised, retry_after)
        wait = self._refused if isinstance(failure, RefusesAllError) else self._outage
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = self._failures
        return max(wait(state), retry_after)
