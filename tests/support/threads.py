"""Threads that do something at the same moment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

THREADS = 8


def in_threads(work: Callable[[int], object], count: int = THREADS) -> None:
    """Call ``work`` in ``count`` threads, each with its number, and raise the first error of any.

    They begin together; where they do not run in parallel, the interpreter switches between them as often as it can.
    """
    barrier = threading.Barrier(count)
    raised: list[BaseException] = []

    def run(which: int) -> None:
        barrier.wait()
        try:
            work(which)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(which,)) for which in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if raised:
        raise raised[0]
