"""Snapshot and Property: metrics of the application, attached to an event."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ..event.library_types import is_a
from ..event.sanitize import MAX_DEPTH, json_key


class Property:
    """A name, a value (its JSON type is kept) and the name of a type, which is not checked."""

    def __init__(self, name: str, value: object, property_type: str) -> None:
        self.name = name
        self.value = value
        self.property_type = property_type

    def getDict(self) -> dict[str, object]:
        """The JSON object that is sent."""
        return {"name": self.name, "value": self.value, "type": self.property_type}

    def __repr__(self) -> str:
        return f"Property({self.name!r}, {self.value!r}, {self.property_type!r})"


Properties = Iterable[Property | Mapping[str, object]]


class Snapshot:
    """A group of properties at one time.

    ``time_usec``: microseconds since the epoch, default now. ``parent_id``: tracking id of its event, default the
    event that it is attached to. ``properties`` is copied.
    """

    def __init__(
        self,
        name: str,
        time_usec: int | None = None,
        parent_id: str | None = None,
        category: str | None = None,
        properties: Properties | None = None,
    ) -> None:
        self.name = name
        self.time_usec = now() if time_usec is None else time_usec
        self.parent_id = parent_id
        self.category = category
        self.properties: list[Property | Mapping[str, object]] | None = _copied(properties)

    def addProperty(self, name: str, value: object, property_type: str) -> None:
        if self.properties is None:
            self.properties = []
        self.properties.append(Property(name, value, property_type))

    def getDict(self, parent_id: str | None = None) -> dict[str, object]:
        """The JSON object that is sent, without what is None. ``parent_id``: its parent if it has none itself."""
        found = {
            "name": self.name,
            "time-usec": self.time_usec,
            "type": "SNAPSHOT",
            "parent-id": parent_id if self.parent_id is None else self.parent_id,
            "category": self.category,
            "properties": self.properties,
        }
        return {key: value for key, value in found.items() if value is not None}

    def __repr__(self) -> str:
        return f"Snapshot({self.name!r}, {self.time_usec}, properties={self.properties!r})"


def _copied(properties: object) -> Any:
    """A new list; anything that is not iterable, or a mapping or str, is returned as it is: nothing is checked."""
    if isinstance(properties, (str, bytes, Mapping)) or not isinstance(properties, Iterable):
        return properties
    return list(properties)


def now() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


def spelled(value: object, parent_id: str | None = None) -> object:
    """A copy of the value in which each Snapshot and Property, at any depth, is its JSON object.

    Snapshots without a parent get ``parent_id``. Never raises.
    """
    try:
        return _spelled(value, parent_id, 0)
    except Exception:  # from a class of the application: its repr is sent
        return value


def _spelled(value: object, parent_id: str | None, depth: int) -> object:
    if is_a(value, Snapshot):
        return _spelled(value.getDict(parent_id), None, depth)
    if is_a(value, Property):
        return _spelled(value.getDict(), None, depth)
    if depth > MAX_DEPTH:
        return value
    if is_a(value, dict):
        # Copied at once: another thread may be changing it.
        return {json_key(key): _spelled(member, parent_id, depth + 1) for key, member in list(value.items())}
    if is_a(value, list) or is_a(value, tuple):  # named tuples too are lists to JSON
        return [_spelled(member, parent_id, depth + 1) for member in value]
    return value
