"""Any value as one text, number or time of an event; nothing here raises."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

MAX_TEXT = 256 * 1024
"""The most characters of one text, and bytes of one `bytes`; a marker says how many were left out."""

MAX_NAME = 1000
"""The most characters of a logger's, thread's, file's ... name."""

MAX_KEY = 256
"""The most characters of a key."""

FIRST_SECOND, END_OF_TIME = -62135596800.0, 253402300800.0
"""The years 1 to 9999, in seconds since the epoch; the end is exclusive."""

_MAX_REPR = 10_000


def bounded(text: str, most: int) -> str:
    """Return the text, cut after ``most`` characters with a marker. Lone surrogates stay: JSON can escape them."""
    if len(text) <= most:
        return text
    return f"{text[:most]}[... {len(text) - most} characters left out ...]"


def type_name(value: object) -> str:
    try:
        return bounded(str.__str__(type(value).__name__), MAX_KEY)
    except Exception:
        return "object"


def safe_str(value: object, most: int = _MAX_REPR) -> str:
    """Return ``str(value)``, cut after ``most`` characters, or a marker when `str` raises."""
    return _rendered(str, value, most)


def safe_repr(value: object, most: int = _MAX_REPR) -> str:
    """Return ``repr(value)``, cut after ``most`` characters, or a marker when `repr` raises."""
    return _rendered(repr, value, most)


def _rendered(render: Callable[[Any], str], value: object, most: int) -> str:
    try:
        return bounded(str.__str__(render(value)), most)
    except Exception as exc:
        return f"<unrepresentable {type_name(value)}: {type_name(exc)}>"


def as_text(value: object, most: int = MAX_TEXT) -> str:
    """Return any value as text, cut after ``most`` characters."""
    if type(value) is str:
        return value if len(value) <= most and value.isascii() else bounded(value, most)
    return safe_str(value, most)


def as_name(value: object) -> str:
    """Return the value as text, cut after `MAX_NAME` characters; "" for None."""
    if type(value) is str and len(value) <= MAX_NAME and value.isascii():
        return value
    return "" if value is None else as_text(value, MAX_NAME)


def as_integer(value: Any) -> int:
    """Return the value as a signed 64-bit integer, clamped; 0 if it is no number."""
    try:
        return min(max(int(value), -(2**63)), 2**63 - 1)
    except Exception:
        return 0


def as_seconds(value: Any) -> float:
    """Return the value as seconds since the epoch; the current time unless it is in the years 1 to 9999."""
    try:
        seconds = float(value)
    except Exception:
        return time.time()
    return seconds if FIRST_SECOND <= seconds < END_OF_TIME else time.time()
