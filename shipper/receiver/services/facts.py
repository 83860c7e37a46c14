"""What the page shows about an event of any service, and the id by which the events of one record are joined."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...event.model import EventId

MAX_WORDS = 16_384
"""The most characters of one record that can be searched for."""

_encode = json.JSONEncoder(ensure_ascii=False).encode
_MAX_DEPTH = 6  # levels of nested values that get dotted names


@dataclass(frozen=True, slots=True)
class Facts:
    """What one service's event says about its record. Of several, the one with the greatest ``weight`` counts."""

    weight: int = 0
    logger: str = ""
    app: str = ""
    host: str = ""
    pid: str = ""
    trace: str = ""
    kind: str = "log"  # "log", "activity", "snapshot"
    parent: str = ""  # the id of the activity that the event is part of
    members: tuple[str, ...] = ()  # ids of an activity's events
    took: float | None = None  # seconds, of an activity
    extras: Mapping[str, str] = field(default_factory=dict)  # what the application attached, by dotted names
    words: str = ""  # more text to search: exceptions, places, users


NO_FACTS = Facts()


def ident(key: str | None) -> str | None:
    """The record's id, from an event's key: Trakerr gets the id as text, which becomes the UUID that the others get."""
    if key is None or len(key) > 37 or key[16:17] != "-":
        return key
    id = EventId.from_text(key)
    return key if id is None else id.uuid_text


def dotted(values: Mapping[str, Any]) -> dict[str, str]:
    """``{"a": {"b": 1}}`` as ``{"a.b": "1"}``: the form that searches compare with."""
    found: dict[str, str] = {}
    _walk(values, "", 0, found)
    return found


def _walk(values: Mapping[str, Any], prefix: str, depth: int, found: dict[str, str]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and value and depth < _MAX_DEPTH:
            _walk(value, f"{prefix}{name}.", depth + 1, found)
        else:
            found[f"{prefix}{name}"] = spelled(value)


def spelled(value: Any) -> str:
    """A JSON value as text; strings without quotes."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is float:
        return str(value)
    try:
        return _encode(value)
    except RecursionError:
        return "[too deep]"


def as_text(value: Any) -> str:
    """A text or number as text; "" for anything else."""
    if type(value) is str:
        return value
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def first_text(value: Any) -> str:
    """A text, or the first one of a list."""
    return as_text(value[0] if isinstance(value, list) and value else value)
