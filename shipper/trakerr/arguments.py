"""Checks of what callers pass, with the exceptions and words of trakerr-python's code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ConfigurationError

STRINGS = "Arguments are expected strings:"
STRINGS_OR_NONE = "Arguments are expected strings or None."


def check_texts(message: str, **values: object) -> None:
    """TypeError, with ``message`` and the argument's name, unless all values are str."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"{message} {name} is {type(value).__name__}")


def check_count(name: str, value: object) -> None:
    """TypeError unless the value is an int; ConfigurationError below 1."""
    if not isinstance(value, int):
        raise TypeError(f"{name} is expected to be a number, not {type(value).__name__}")
    if value < 1:
        raise ConfigurationError(name, value, "a whole number, 1 or more")


def list_tags(name: str, value: object) -> list[Any]:
    """The tags as a list; a single str is one tag. TypeError for bytes, and for what is not iterable."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, Iterable) or isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{STRINGS} {name} is {type(value).__name__}")
    return list(value)
