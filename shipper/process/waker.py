"""Wakes a thread that waits for events on descriptors: by other threads and by signal handlers."""

from __future__ import annotations

import contextlib
import os
import select


class Waker:
    """One thread calls `wait`; any thread, and a signal handler in the main thread, may call `wake`."""

    def __init__(self) -> None:
        self._reading, self._writing = _descriptors()
        self.was_woken = False  # whether `wake` ended the last `wait`

    def wake(self) -> None:
        """End the `wait` that is under way, or the next one."""
        with contextlib.suppress(OSError):  # full: a wake-up is pending already
            os.write(self._writing, b"\1\0\0\0\0\0\0\0")

    def wait(self, seconds: float | None, *others: int) -> dict[int, int]:
        """Wait for `wake` or for input on the ``others`` (-1: none), at most ``seconds`` (None: without limit).

        Returns the events of `select.poll` for those of the others that have any.
        """
        found = poll(seconds, self._reading, *others)
        self.was_woken = bool(found.pop(self._reading, 0))
        if self.was_woken:
            with contextlib.suppress(OSError):
                os.read(self._reading, 4096)
        return found

    def close(self) -> None:
        for fd in {self._reading, self._writing}:
            os.close(fd)


def poll(seconds: float | None, *descriptors: int) -> dict[int, int]:
    """Wait for input on descriptors (-1: none), at most ``seconds`` (None: without limit); return their events."""
    poller = select.poll()
    for fd in descriptors:
        if fd >= 0:
            poller.register(fd, select.POLLIN)
    return dict(poller.poll(None if seconds is None else max(0.0, seconds) * 1000))


def _descriptors() -> tuple[int, int]:
    try:
        both = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except (OSError, AttributeError):  # no such call on this system, or a filter refuses it
        return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return both, both
