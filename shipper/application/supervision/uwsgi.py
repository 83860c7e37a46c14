"""uWSGI forks its workers in C: Python's fork hooks do not run, and a thread that holds the GIL at that moment leaves
the worker without one for ever. So no thread is started in uWSGI's first process (`unpatched.start_thread` refuses). A
worker starts its own at its first record; where the first process itself becomes a worker, this module does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def call_in_first_worker(function: Callable[[], object]) -> None:
    """Without a master, call the function when this process has forked the other workers and becomes one itself.

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
