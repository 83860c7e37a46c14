"""The markers that say in an event what was left out of it, and how much.

A list of frames, exceptions, properties or snapshots that a client put into ``event.data`` goes to its service as it
is, so a marker in such a list has the shape of the list's other items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._support.lazy_pattern import LazyPattern

MARKER_BYTES = 48
"""The most bytes of a marker's text."""

MARKER_KEY = "[...]"
"""The key of the marker in a dict."""

_COUNT = LazyPattern(r"\[\.\.\. (\d{1,15}) (\w+) left out \.\.\.\]\Z")


def left_out(count: int, what: str) -> str:
    return f"[... {count} {what} left out ...]"


def count_in(text: object, what: str) -> int:
    """Return the number in a marker for ``what`` at the end of a text; 0 when there is none."""
    if type(text) is not str or not text.endswith(" left out ...]"):
        return 0
    found = _COUNT.search(text, max(0, len(text) - MARKER_BYTES))
    return int(found[1]) if found and found[2] == what else 0


def count_items(items: Iterable[Any], what: str) -> int:
    """Count the items; a marker among them counts for as many as it says were left out."""
    return sum(count_in(_text_of(item), what) or 1 for item in items)


def _text_of(item: Any) -> object:
    if isinstance(item, tuple):  # an `exceptions.Frame`
        return item[0]
    if type(item) is not dict:
        return item
    return next((item[key] for key in ("file", "message", "value", "name", MARKER_KEY) if key in item), None)


def noun(items: Sequence[Any]) -> str:
    """What the items of a list are called in its marker."""
    return "frames" if items and is_frame(items[0]) else "items"


def is_frame(item: Any) -> bool:
    """Whether the item is a line of a traceback: a `Frame`, or a dict of Trakerr's ``eventStacktrace``."""
    return isinstance(item, tuple) or (type(item) is dict and {"file", "line", "function"} <= item.keys())


def marker_item(text: str, like: Any) -> Any:
    """The marker as an item of a list that has items such as ``like``."""
    if isinstance(like, tuple):
        return type(like)(text, 0, "")  # type: ignore[call-arg]
    if type(like) is not dict:
        return text
    if is_frame(like):
        return {"function": "", "line": 0, "file": text}
    if "traceLines" in like:
        return {"type": MARKER_KEY, "message": text, "traceLines": []}
    if "name" in like and "value" in like:
        return {"name": MARKER_KEY, "value": text, "type": "string"}
    if like.get("type") == "SNAPSHOT":
        return {**_scalars(like), "name": text}
    return {MARKER_KEY: text}


def _scalars(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if not isinstance(value, (dict, list))}
