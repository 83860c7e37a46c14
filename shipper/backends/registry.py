"""Backends by name: our own, and the entry points of the group ``shipper.backends`` that others install."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ConfigurationError, nearest

GROUP = "shipper.backends"

OURS = {
    "console": "shipper.backends.console:Console",
    "http": "shipper.backends.http_json.settings:Http",
    "jetstream": "shipper.backends.jetstream:JetStream",
    "jkool": "shipper.backends.jkool:JKool",
    "otlp": "shipper.backends.otlp.settings:Otlp",
    "trakerr": "shipper.backends.trakerr:Trakerr",
}
"""Name → module and class. Not found as entry points: a frozen program has none."""


def _entry_points() -> Iterable[Any]:
    # Imported here: it takes half as long as the rest of shipper, and few applications name their backends.
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def names() -> list[str]:
    """The names of all backends that can be used."""
    return sorted({*OURS, *(point.name for point in _entry_points())})


def find(name: str) -> Callable[..., Any]:
    """Return the class of that name. Raises ConfigurationError when there is none or it can't be imported."""
    place = OURS.get(name.lower()) or next((each.value for each in _entry_points() if each.name == name), None)
    if place is None:
        known = names()
        raise ConfigurationError("backend", name, f"must be one of {', '.join(known)}{nearest(name, known)}")
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as exc:
        raise ConfigurationError("backend", name, f"{place} can't be imported: {exc}") from exc
    if not callable(found):
        raise ConfigurationError("backend", name, f"{place} is not a class")
    return found  # type: ignore[no-any-return]
