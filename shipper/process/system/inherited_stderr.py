"""The stderr that this process inherited from the application process which started it.

A program that captures the application's output (`subprocess.run(capture_output=True)`, cron, ssh, CI) waits until no
process has stderr open. So it is closed as soon as that application process ends; warnings are in `shipper.log` too.
"""

from __future__ import annotations

import os
import select


class InheritedStderr:
    """``starter``: the pid of the process that started this one."""

    def __init__(self, starter: int) -> None:
        self._starter = starter
        self._pidfd = _open_pidfd(starter)
        self._is_open = True

    @property
    def descriptor(self) -> int:
        """A descriptor that becomes readable when the starter ends; -1 if there is none, or after `close`."""
        return self._pidfd if self._is_open else -1

    def close_if_orphaned(self) -> None:
        """Close stderr if the starter has ended, even while it is a zombie."""
        if self._is_open and self._has_starter_ended():
            self.close()

    def close(self) -> None:
        """Replace stderr by /dev/null. Idempotent."""
        if not self._is_open:
            return
        self._is_open = False
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def _has_starter_ended(self) -> bool:
        if self._pidfd < 0:
            return _is_zombie_or_gone(self._starter)
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(0))


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1


def _is_zombie_or_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
