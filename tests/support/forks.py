"""Children that do one thing and end."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def forked(work: Callable[[], None], fork: Callable[[], int] = os.fork) -> int:
    """The pid of a child that does the work and nothing else; it ends with 0 when nothing was raised."""
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
    """The exit code of a child that does the work, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work, fork), 0)[1])
