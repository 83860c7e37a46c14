"""Waiting for a condition, never for a while.

Deadlines are there to end a test that would hang, and say nothing about how fast something is: each is chosen for a
machine at rest, and a machine that is `SLOWER` times slower still meets it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

SLOWER = 4.0
"""How many times slower than the machine for which deadlines were chosen another machine may be."""

PATIENCE = 15.0 * SLOWER
"""Seconds for one step that nobody else limits: the end of a program, an answer, a flush."""

STEP = 0.01
"""Seconds between two looks."""


def scaled(seconds: float) -> float:
    """Return a deadline for any machine, from the ``seconds`` that suffice on a machine at rest."""
    return seconds * SLOWER


def holds(condition: Callable[[], object], timeout: float = 5.0) -> bool:
    """Wait until ``condition`` is true, at most ``timeout`` scaled seconds; return whether it became true."""
    deadline = time.monotonic() + scaled(timeout)
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
        raise AssertionError(f"did not happen within {scaled(timeout):g} s: {message}")


def pass_time(seconds: float) -> None:
    """Let real time pass, where a fault has to last or to strike at some moment; nothing may be asserted about it."""
    threading.Event().wait(seconds)


def stop_process(pid: int) -> None:
    """Stop a process, and return when all of its threads have: one may run for a moment after SIGSTOP was sent."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    wait_until(lambda: {_state(task) for task in tasks.iterdir()} == {"T"}, message=f"process {pid} stops")


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
