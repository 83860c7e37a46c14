"""Whether a backend is paused by a person, and the waits of its deliverer that a person may end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Pause:
    """Any thread may change it; the deliverer's thread waits. ``since``: seconds since the epoch, None: not paused.

    The events are the deliverer's. A paused backend has ``drained`` set while ``draining``: nothing more is sent.
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
        """Pause the backend since then, or resume it. Requests under way are finished."""
        self.since = since
        self.interrupt()

    def interrupt(self) -> None:
        """End the wait that is under way: before the next attempt, or for the end of the pause."""
        self._interrupted.set()
        self._wake.set()

    def note_drain(self) -> None:
        """A drain has begun or ended: end the waits for events and for the end of a pause, but none before a retry."""
        if self.is_on:
            self.interrupt()
        self._wake.set()

    def wait(self, seconds: float) -> bool:
        """Wait before the next attempt; whether the wait was interrupted."""
        return self._wait(seconds, self.forbids_sending)

    def hold(self) -> None:
        """Wait while the backend is paused; return for each beginning and end of a drain too."""
        is_draining = self._draining.is_set()
        if is_draining:
            self._drained.set()

        def is_over() -> bool:
            return self._stopping.is_set() or not self.is_on or self._draining.is_set() is not is_draining

        self._wait(None, is_over)

    def _wait(self, seconds: float | None, unless: Callable[[], bool]) -> bool:
        # What `unless` looks at is changed before the interruption, so none that comes meanwhile is missed.
        self._interrupted.clear()
        return unless() or self._interrupted.wait(seconds)
