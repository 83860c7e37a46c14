"""Whether a backend is paused by a person, and the waits of its deliverer that a person may end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Pause:
    """Any thread may change it; the deliverer's thread waits.

    `since`: when the pause began, seconds since the epoch, or None. The arguments are the deliverer's `threading.Event`
    objects. While ``draining``, a paused backend counts as ``drained``: nothing is sent to it.
    """

    def __init__(
        self, wake: threading.Event, stopping: threading.Event, draining: threading.Event, drained: threading.Event
    ) -> None:
        self.since: float | None = None
        self._wake = wake
        self._stopping = stopping
        self._draining = draining
        self._drained = drained
        self._interrupted = threading.Event()

    @property
    def is_on(self) -> bool:
        return self.since is not None

    def forbids_sending(self) -> bool:
        """Whether no further request may be begun."""
        return self.is_on or self._stopping.is_set()

    def set(self, since: float | None) -> None:
        """Pause the backend, or resume it with None. Requests under way are finished."""
        self.since = since
        self.interrupt()

    def interrupt(self) -> None:
        """End the wait that is under way: before the next attempt, or for the end of the pause."""
        self._interrupted.set()
        self._wake.set()

    def note_drain(self) -> None:
        """End a wait for events or for the end of a pause, as a drain has begun or ended; not one before a retry."""
        if self.is_on:
            self.interrupt()
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Wait before the next attempt; whether the wait was interrupted."""
        return self._wait(seconds, self.forbids_sending)

    def hold(self) -> None:
        """Wait while the backend is paused; also return when a drain begins or ends."""
        is_draining = self._draining.is_set()
        if is_draining:
            self._drained.set()

        def is_over() -> bool:
            return self._stopping.is_set() or not self.is_on or self._draining.is_set() is not is_draining

        self._wait(None, is_over)

    def _wait(self, seconds: float | None, unless: Callable[[], bool]) -> bool:
        # Whoever interrupts has changed what `unless` reads before: an interruption before `clear` is not missed.
        self._interrupted.clear()
        return unless() or self._interrupted.wait(seconds)
