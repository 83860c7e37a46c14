"""Threads of the shipper process. One that fails ends the process; the next process continues from the journal."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

from .status.crashes import Crashes

EXIT_FAILED = 70  # status of a process that ends because of an unexpected error


FATAL_SIGNALS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)


def block_fatal_signals() -> None:
    """Let only the threads that encode events receive a fatal signal that is sent to the process.

    Called by the main thread before it starts others. Then such a signal ends the process while the event that caused
    it is still noted by the crash guard. A thread's own fault ends the process at once anyway.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, FATAL_SIGNALS)


class Threads:
    """Threads that are started and ended together. With ``encode`` they encode events: see `block_fatal_signals`."""

    def __init__(self, crashes: Crashes, *, encode: bool = False) -> None:
        self._threads: list[threading.Thread] = []
        self._crashes = crashes
        self._encode = encode

    def start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def join(self, seconds: float) -> None:
        """Wait until all threads have ended, for at most ``seconds``."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def are_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self, run: Callable[[], None]) -> None:
        try:
            if self._encode:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, FATAL_SIGNALS)
            run()
        except BaseException as error:
            self._crashes.report(error)
            os._exit(EXIT_FAILED)
