"""Waits for the signal that ends a command which would run forever."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ending_signals() -> Iterator[Callable[[], None]]:
    """Yield a function that waits for SIGINT or SIGTERM, also for one that came before. For the main thread only.

    The interpreter itself writes the signal into a pipe. A handler written in Python would not do: that of a signal
    that comes just before the wait runs only after it, and inside `threading.Event.wait` it can meet that event's lock.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: None) for number in ENDING}

    def wait() -> None:
        while os.read(reading, 1)[0] not in ENDING:
            pass  # another signal that has a handler

    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(reading)
        os.close(writing)
