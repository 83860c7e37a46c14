"""Waits for the end of a process that need not be a child of this one."""

from __future__ import annotations

import os
import select
import threading

from ..._support import unpatched
from ...transport.descriptors import OwnDescriptor

CHECK_SECONDS = 1.0  # longest wait for a process whose end the kernel reports
POLL_SECONDS = 0.05  # longest wait where it does not, and while a process is starting


class ProcessExitWatcher:
    """One thread waits in `wait_for_exit`; any other may end that wait with `wake`."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._eventfd: OwnDescriptor | None = _open_eventfd()

    def wait_for_exit(self, pid: int) -> None:
        """Return when the process ends or `wake` is called, and after `CHECK_SECONDS` (1) at most.

        ``pid``: 0 if not known, -1 in another container. After `POLL_SECONDS` (0.05) if it can't be watched, except -1.
        """
        if self._eventfd is not None and not self._eventfd.is_own():  # other code has closed it
            self._eventfd = _open_eventfd()
        eventfd = self._eventfd
        if eventfd is None or self._woken.is_set():
            self._woken.wait(POLL_SECONDS)
            return
        poller = unpatched.original("select", "poll")()
        poller.register(eventfd.number, select.POLLIN)
        process = _open_pidfd(pid)
        if process is not None:
            poller.register(process.number, select.POLLIN)
        poller.poll((POLL_SECONDS if process is None and pid >= 0 else CHECK_SECONDS) * 1000)
        if process is not None:
            process.close()

    def wake(self) -> None:
        """End this wait, and every later one at once."""
        self._woken.set()
        if self._eventfd is not None and self._eventfd.is_own():
            os.eventfd_write(self._eventfd.number, 1)

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self._eventfd is not None:
            self._eventfd.close()
        self._eventfd = None


def _open_eventfd() -> OwnDescriptor | None:
    try:
        return OwnDescriptor(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
    except (OSError, AttributeError):  # no descriptor left, or not Linux: poll instead
        return None


def _open_pidfd(pid: int) -> OwnDescriptor | None:
    try:
        return OwnDescriptor(os.pidfd_open(pid)) if pid > 0 else None
    except (OSError, AttributeError):
        return None
