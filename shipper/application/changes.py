"""The names of the settings that differ between two calls of `start()`, without values, which may be secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..config.settings import Settings
from .capture.pipeline import Callbacks

_DERIVED = ("backends", "cwd", "is_named", "joined", "name_from", "variables")


def changes(before: Settings, now: Settings, callbacks: Callbacks, others: Callbacks) -> Iterator[str]:
    """Yield the names of settings that differ, such as ``trakerr.url``; ``before``, ``callbacks``: the earlier ones."""
    yield from (name for name in _differing(before, now) if name not in _DERIVED)
    earlier, later = _own(before), _own(now)
    for name in sorted({*earlier, *later}):
        if name not in earlier or name not in later:
            yield f"{name} ({'added' if name in later else 'removed'})"
        elif type(earlier[name]) is not type(later[name]):
            yield name
        else:
            yield from (f"{name}.{field}" for field in _differing(earlier[name], later[name]))
    for name in Callbacks._fields:
        if _code(getattr(callbacks, name)) != _code(getattr(others, name)):
            yield name


def _own(settings: Settings) -> dict[str, object]:
    """Name → backend, of those that `start()` was given."""
    return {each.name: each for each in settings.backends if each.name not in settings.joined}


def _differing(one: object, other: object) -> Iterator[str]:
    if dataclasses.is_dataclass(one):
        names = (field.name for field in dataclasses.fields(one) if field.compare)
        yield from (name for name in names if getattr(one, name) != getattr(other, name))


def _code(function: object) -> object:
    """A function's code, to compare: a notebook's cell that is run again defines an equal function anew."""
    return getattr(function, "__code__", function)
