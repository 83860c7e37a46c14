"""Threads of the shipper process. One that fails ends the process: the next process goes on from the journal."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from . import log

EXIT_FAILED = 70  # status of a process that ends because of an unexpected error

_log = logging.getLogger(log.NAME)


class Threads:
    """Threads that are started and ended together."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=_exit_on_error, args=(run,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def join(self, seconds: float) -> None:
        """Wait for all of them, for at most so many seconds."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def are_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)


def _exit_on_error(run: Callable[[], None]) -> None:
    try:
        run()
    except BaseException:
        _log.exception("the shipper process ends after an unexpected error")
        os._exit(EXIT_FAILED)
