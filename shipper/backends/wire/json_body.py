"""Bodies of requests: JSON text without NaN and infinities, batches, gzip."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any

__all__ = [
    "ENQUOTE", "MAX_CACHED", "SUPPRESS", "body", "is_special", "json_text", "no_fast_path", "quote", "quoted",
    "readable", "spelled", "split_at",
]  # fmt: skip

SUPPRESS = "suppress"
ENQUOTE = "enquote"

MAX_CACHED = 1000
"""The most logging calls, or loggers, whose constant JSON text a backend keeps."""


def spelled(value: object) -> str:
    """The text of a value that JSON has no type for: bytes are decoded, anything else is passed to ``str``."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


# allow_nan=False costs nothing and finds the bodies that need the slow path. Unpacked values have no cycles.
_encode = json.JSONEncoder(allow_nan=False, check_circular=False, default=spelled).encode
_encode_readable = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, default=spelled).encode


def json_text(value: Any, special_numbers: str = ENQUOTE) -> str:
    """``json.dumps`` of ``value``, ASCII only, with NaN and infinities left out or quoted at any depth."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_plain_numbers(value, special_numbers))


def readable(value: Any) -> str:
    """JSON text inside of another text: not limited to ASCII, NaN and infinities quoted."""
    try:
        return _encode_readable(value)
    except ValueError:
        return _encode_readable(_plain_numbers(value, ENQUOTE))


def no_fast_path(event: object) -> None:
    """In place of a fast encoder: returns None, so that the general path encodes every event."""


def split_at(gaps: Collection[str], fields: Mapping[str, Any]) -> list[str]:
    """The JSON text of an object's fields, split at the keys in ``gaps``; adjacent gaps count as one.

    Each field begins with a comma. Fields in ``gaps``, and those that are None, are left out.
    """
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
    """The body for ``batch``: None one object, "array" a JSON array, "lines" one object per line; with gzip or not."""
    plain = _joined(events, batch).encode("ascii")
    if not compress:
        return plain
    import gzip  # used in the shipper process only

    return gzip.compress(plain, compresslevel=3, mtime=0)


def _joined(events: Sequence[str], batch: str | None) -> str:
    if batch == "array":
        return f"[{', '.join(events)}]"
    if batch == "lines":
        return "".join([f"{event}\n" for event in events])
    (event,) = events
    return event


def is_special(value: object) -> bool:
    """Whether a value is NaN or an infinity, which JSON cannot express."""
    return isinstance(value, float) and not math.isfinite(value)


def quoted(number: float) -> str:
    """NaN, Infinity or -Infinity, as the Java clients write them."""
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
    # A jKool property needs a value, so the whole property is left out.
    return is_special(value) or (isinstance(value, dict) and "name" in value and is_special(value.get("value")))
