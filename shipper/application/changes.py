"""What differs between two calls of `start()`, by the names of the settings: values may be secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ..config.settings import Settings
from .capture.pipeline import Callbacks

_DERIVED = ("backends", "cwd", "is_named", "joined", "name_from", "variables")


def changes(before: Settings, now: Settings, callbacks: Callbacks, others: Callbacks) -> Iterator[str]:
    """The settings that are not the same, ``callbacks`` being the earlier ones: ``grace``, ``trakerr.url``."""
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
    """The backends that `start()` was given."""
    return {each.name: each for each in settings.backends if each.name not in settings.joined}


def _differing(one: object, other: object) -> Iterator[str]:
    if dataclasses.is_dataclass(one):
        names = (field.name for field in dataclasses.fields(one) if field.compare)
        yield from (name for name in names if getattr(one, name) != getattr(other, name))


def _code(function: object) -> object:
    """What a function does: a cell of a notebook that is run again makes another one that is the same."""
    return getattr(function, "__code__", function)
