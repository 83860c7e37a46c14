"""Children that do one thing and end."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable


def forked(work: Callable[[], None], fork: Callable[[], int] = os.fork) -> int:
    """Return the pid of a child that only calls ``work``; it exits with 0, or with 1 when that raises."""
    pid = fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def in_a_child(work: Callable[[], None], fork: Callable[[], int] = os.fork) -> int:
    """Call ``work`` in a child, wait for its end, and return its exit code; minus the number of a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work, fork), 0)[1])


CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "open", "os.truncate", "fcntl.flock")


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Kill a child before operation ``step`` (from 0) of those in `CHANGES`; return whether it got that far."""
    pid = os.fork()
    if not pid:
        steps = iter(range(1_000_000))

        def hook(event: str, arguments: object) -> None:
            if event in CHANGES and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
