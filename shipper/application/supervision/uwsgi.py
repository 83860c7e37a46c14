"""Starts the supervising thread in uWSGI's first process where that becomes a worker itself.

uWSGI forks its workers in C: Python's fork hooks do not run, and if a thread holds the GIL at that moment, the worker
never gets it. So no thread is started before (`unpatched.start_thread` refuses), and a forked worker starts its own at
its first record.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def call_in_first_worker(function: Callable[[], object]) -> None:
    """Call the function when this process has forked the other workers and becomes one itself: without a master.

    Not in forked workers: uWSGI handles no signal yet while its hook runs, so a worker that is told to end meanwhile
    gets a KeyboardInterrupt, and lives on until it is killed a minute later.
    """
    uwsgi: Any = sys.modules["uwsgi"]
    if uwsgi.masterpid():
        return
    previous = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        if previous is not None:
            previous()
        if uwsgi.worker_id() == 1:
            function()

    uwsgi.post_fork_hook = hook
