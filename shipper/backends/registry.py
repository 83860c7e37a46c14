"""The backends that can be named in a setting: entry points of the group ``shipper.backends``, name → class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ConfigurationError

GROUP = "shipper.backends"


def _entry_points() -> Iterable[Any]:
    # Imported only here: it is a third of what importing shipper costs, and few name their backends.
    from importlib.metadata import entry_points

    return entry_points(group=GROUP)


def names() -> list[str]:
    """The names of all installed backends."""
    return sorted({point.name for point in _entry_points()})


def find(name: str) -> Callable[..., Any]:
    """The class of that name; ConfigurationError when there is none, or when it can't be imported."""
    point = next((point for point in _entry_points() if point.name == name), None)
    if point is None:
        raise ConfigurationError("backend", name, f"one of {', '.join(names()) or 'none (nothing is installed)'}")
    try:
        made = point.load()
    except Exception as exc:
        raise ConfigurationError("backend", name, f"{point.value} can't be imported: {exc}") from exc
    if not callable(made):
        raise ConfigurationError("backend", name, f"{point.value} is no class")
    return made  # type: ignore[no-any-return]
