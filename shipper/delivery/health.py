"""The health of a backend for the status: state, last error, next attempt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..errors import RetryableError, UnauthorisedError
from .blame.refusals import RefusesAllError

REFUSES_ALL = (
    "%s refuses every event: %s. No event is thrown away: they wait in the journal, and one at a time is tried. "
    "Check the URL, whether the service still exists, and whether it takes gzip (if not: compress=False)."
)

_HEALTHY_STATES = ("idle", "delivering")

_log = logging.getLogger("shipper.process")


class Health:
    """Written by the deliverer's thread and its request threads; any thread may read it.

    Logs each change to another failing state: an error when the backend refuses every event, else a warning.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._clock = clock
        self._is_failing = False
        self.state = "idle"
        self.since = clock()
        """When the state began, seconds since the epoch; idle and delivering are one."""
        self.next_try: float | None = None
        """When a backend that fails is tried again, seconds since the epoch."""
        self.last_error = ""
        self.last_error_at: float | None = None
        self.retried = 0
        """How many waits before a retry there were."""
        self.oldest: float | None = None
        """Time of the oldest event of the last batch, seconds since the epoch."""

    def set_idle(self) -> None:
        """Nothing is left to deliver."""
        self._set_state("idle")
        self.oldest = None

    def set_delivering(self) -> None:
        """Note that the backend takes events; clear the last error if it was a failure."""
        if self._is_failing:
            self._is_failing = False
            self.last_error, self.last_error_at = "", None
        self._set_state("delivering")

    def note_failure(self, failure: RetryableError) -> None:
        """A batch was not taken, or not all of it."""
        self._is_failing = True
        self._note_error(failure.reason)

    def set_waiting(self, failure: RetryableError, seconds: float) -> None:
        """Note that nothing is sent to the backend for ``seconds``."""
        state = _state_after(failure)
        if state == "refused" != self.state:
            _log.error(REFUSES_ALL, self._name, failure.reason)
        elif state != self.state:
            _log.warning("%s: %s; trying again in %.1f s, events wait", self._name, failure.reason, seconds)
        self._set_state(state)
        self.next_try = self._clock() + seconds
        self.retried += 1

    def warn(self, message: str) -> None:
        """Log an error that changes no state."""
        self._note_error(message)
        _log.warning("%s: %s", self._name, message)

    def _set_state(self, state: str) -> None:
        if state not in _HEALTHY_STATES or self.state not in _HEALTHY_STATES:
            self.since = self.since if state == self.state else self._clock()
            self.next_try = None
        self.state = state

    def _note_error(self, message: str) -> None:
        self.last_error, self.last_error_at = message, self._clock()


def _state_after(failure: RetryableError) -> str:
    if isinstance(failure, RefusesAllError):
        return "refused"
    return "unauthorised" if isinstance(failure, UnauthorisedError) else "retrying"
