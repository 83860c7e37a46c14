"""Warnings of the application side: lines on stderr, never through logging, which would ship them."""

from __future__ import annotations

import sys
import time

REPEAT_SECONDS = 60.0  # between two lines about the same subject

_warned_at: dict[str, float] = {}


def warn_once_on_stderr(text: str) -> None:
    """`warn_on_stderr`, once in the life of the process."""
    warn_on_stderr(text)
    _warned_at[text] = float("inf")


def warn_on_stderr(subject: str, detail: str = "") -> None:
    """Write one line to the process's original stderr, at most once a minute for each subject; ignore errors."""
    now = time.monotonic()
    if now - _warned_at.get(subject, float("-inf")) < REPEAT_SECONDS:
        return
    _warned_at[subject] = now
    stream = sys.__stderr__
    if stream is None:
        return
    try:
        stream.write(f"shipper: {subject}{': ' if detail else ''}{detail}\n")
        stream.flush()
    except (OSError, ValueError):
        return
