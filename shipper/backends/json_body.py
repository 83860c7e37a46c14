"""What both services' bodies are made of: JSON text without special numbers, batches, gzip."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any

__all__ = [
    "ENQUOTE", "PLACES", "SUPPRESS", "body", "cut", "is_special", "json_text", "no_way", "quote", "quoted", "readable",
    "spelled",
]  # fmt: skip

SUPPRESS = "suppress"
ENQUOTE = "enquote"

PLACES = 1000
"""How many places in programs a backend knows how to spell."""


def spelled(value: object) -> str:
    """For what JSON has no word for: bytes as text, anything else as ``str`` has it."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


# allow_nan=False costs nothing, and tells us when a body needs the slow way. What was unpacked has no cycles.
_encode = json.JSONEncoder(allow_nan=False, check_circular=False, default=spelled).encode
_encode_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, default=spelled).encode


def json_text(value: Any, special_numbers: str = ENQUOTE) -> str:
    """``json.dumps`` of ``value``, ASCII only, with NaN and infinities left out or quoted at any depth."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_plain_numbers(value, special_numbers))


def readable(value: Any) -> str:
    """JSON text for a person, inside of a text: letters of all scripts as they are, NaN and infinities quoted."""
    try:
        return _encode_readable(value)
    except ValueError:
        return _encode_readable(_plain_numbers(value, ENQUOTE))


def no_way(event: object) -> None:
    """No event has a straight way."""


def cut(fields: Mapping[str, Any], gaps: Collection[str]) -> list[str]:
    """The JSON text of an object's fields, in the pieces that stand between its ``gaps``: keys that are left out, with
    neighbours as one. Each field has a comma before it; those that are None are left out too."""
    pieces = [""]
    is_gap = False
    for key, value in fields.items():
        if key in gaps:
            is_gap = True
            continue
        if is_gap:
            pieces.append("")
        is_gap = False
        if value is not None:
            pieces[-1] += f", {quote(key)}: {json_text(value)}"
    return pieces


def body(events: Sequence[str], batch: str | None, compress: bool) -> bytes:
    """One object's text, a JSON array, or one object a line (ended by a newline), as ``batch`` says."""
    plain = _joined(events, batch).encode("ascii")
    if not compress:
        return plain
    import gzip  # the application has no use for it

    return gzip.compress(plain, compresslevel=3, mtime=0)


def _joined(events: Sequence[str], batch: str | None) -> str:
    if batch == "array":
        return f"[{', '.join(events)}]"
    if batch == "lines":
        return "".join([f"{event}\n" for event in events])
    (event,) = events
    return event


def is_special(value: object) -> bool:
    """Whether it is a number that JSON has no word for."""
    return isinstance(value, float) and not math.isfinite(value)


def quoted(number: float) -> str:
    """As the Java clients spell them: NaN, Infinity, -Infinity."""
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def _plain_numbers(value: Any, special_numbers: str) -> Any:
    if is_special(value):
        return quoted(value)
    if isinstance(value, dict):
        return {
            key: _plain_numbers(member, special_numbers)
            for key, member in value.items()
            if not _left_out(member, special_numbers)
        }
    if isinstance(value, (list, tuple)):
        return [_plain_numbers(member, special_numbers) for member in value if not _left_out(member, special_numbers)]
    return value


def _left_out(value: Any, special_numbers: str) -> bool:
    if special_numbers != SUPPRESS:
        return False
    # A property without its value is no property, so all of it goes.
    return is_special(value) or (isinstance(value, dict) and "name" in value and is_special(value.get("value")))
