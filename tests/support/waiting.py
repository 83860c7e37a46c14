"""Waiting for a condition, never for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SLOWER = 4.0
"""How much slower than the machine on which deadlines were chosen one may be that still meets them."""

STEP = 0.01
"""Seconds between two looks."""


def holds(condition: Callable[[], object], timeout: float = 5.0) -> bool:
    """Look until ``condition`` is true or ``timeout`` seconds have passed; say whether it became true."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        pause.wait(min(STEP, left))
    return True


def wait_until(condition: Callable[[], object], timeout: float = 5.0, message: str = "what was waited for") -> None:
    """Return as soon as ``condition`` is true; AssertionError with ``message`` when that took too long."""
    __tracebackhide__ = True
    if not holds(condition, timeout):
        raise AssertionError(f"did not happen within {timeout:g} s: {message}")
