"""Backends by name: entry points of the group ``shipper.backends``, name → class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ConfigurationError

GROUP = "shipper.backends"


def _entry_points() -> Iterable[Any]:
    # Imported here: it would make importing shipper half as slow again, and few applications name their backends.
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def names() -> list[str]:
    """The names of all installed backends."""
    return sorted({point.name for point in _entry_points()})


def find(name: str) -> Callable[..., Any]:
    """Return the class of that name. Raises ConfigurationError when there is none or it can't be imported."""
    point = next((point for point in _entry_points() if point.name == name), None)
    if point is None:
        installed = ", ".join(names()) or "none (nothing is installed)"
        raise ConfigurationError("backend", name, f"must be one of {installed}")
    try:
        found = point.load()
    except Exception as exc:
        raise ConfigurationError("backend", name, f"{point.value} can't be imported: {exc}") from exc
    if not callable(found):
        raise ConfigurationError("backend", name, f"{point.value} is not a class")
    return found  # type: ignore[no-any-return]
