"""Waits for the end of a process that need not be a child of this one."""

from __future__ import annotations

import os
import select
import threading

from .._support import unpatched

CHECK_SECONDS = 1.0  # longest wait for a process whose end the kernel reports
POLL_SECONDS = 0.05  # the same where it does not, and while a process is starting


class ProcessExitWatcher:
    """One thread waits in `wait_for_exit`; any other may end that wait with `wake`."""

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._eventfd = _open_eventfd()

    def wait_for_exit(self, pid: int) -> None:
        """Return when the process ends or does not exist, when `wake` was called, and after `CHECK_SECONDS` at most."""
        if self._eventfd < 0:
            self._woken.wait(POLL_SECONDS)
            return
        poller = unpatched.original("select", "poll")()
        poller.register(self._eventfd, select.POLLIN)
        process = _open_pidfd(pid)
        if process >= 0:
            poller.register(process, select.POLLIN)
        poller.poll((POLL_SECONDS if process < 0 else CHECK_SECONDS) * 1000)
        if process >= 0:
            os.close(process)

    def wake(self) -> None:
        """End this wait, and every later one at once."""
        self._woken.set()
        if self._eventfd >= 0:
            os.eventfd_write(self._eventfd, 1)

    def close(self) -> None:
        """Idempotent."""
        if self._eventfd >= 0:
            os.close(self._eventfd)
        self._eventfd = -1


def _open_eventfd() -> int:
    try:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except (OSError, AttributeError):  # no descriptor left, or not Linux: poll instead
        return -1


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid) if pid > 0 else -1
    except (OSError, AttributeError):
        return -1
