"""What both services' bodies are made of: JSON text without special numbers, batches, gzip."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

SUPPRESS = "suppress"
ENQUOTE = "enquote"


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


def body(events: Sequence[Any], batch: str | None, compress: bool, special_numbers: str = ENQUOTE) -> bytes:
    """One object, a JSON array, or one object a line (ended by a newline), as ``batch`` says."""
    plain = _joined(events, batch, special_numbers).encode("ascii")
    if not compress:
        return plain
    import gzip  # the application has no use for it

    return gzip.compress(plain, compresslevel=3, mtime=0)


def _joined(events: Sequence[Any], batch: str | None, special_numbers: str) -> str:
    if batch == "array":
        return json_text(list(events), special_numbers)
    if batch == "lines":
        return "".join(json_text(event, special_numbers) + "\n" for event in events)
    (event,) = events
    return json_text(event, special_numbers)


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
