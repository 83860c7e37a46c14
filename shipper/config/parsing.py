"""Converts the texts of environment variables to the types of their settings."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing
from typing import Any

from ..errors import ConfigurationError


def parse(variable: str, text: str, annotation: Any) -> Any:
    """Convert the text of a variable to the annotated type. Commas separate the items of a list."""
    kinds = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if text == "" and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _parse_as(kind, text)
        except ValueError:
            continue
    allowed = " or ".join(_in_words(kind) for kind in kinds if kind is not type(None))
    raise ConfigurationError(variable, text, f"must be {allowed}")


def parse_field(field: dataclasses.Field[Any], variable: str, text: str, annotation: Any) -> Any:
    """Convert the text of a variable to the annotated type of a dataclass's field."""
    is_lines = field.metadata.get("in_environment") == "lines"
    return _parse_lines(variable, text) if is_lines else parse(variable, text, annotation)


def _parse_lines(variable: str, text: str) -> tuple[str, ...]:
    """The items of a list whose items may contain commas: one per line, or a JSON list of texts."""
    import json

    try:
        items = json.loads(text)
    except ValueError:
        items = None
    if isinstance(items, list):
        if not all(isinstance(item, str) for item in items):
            raise ConfigurationError(variable, text, "must be a JSON list of texts, or one item per line")
        return tuple(items)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if "," in re.sub(_IN_BRACKETS, "", line):
            allowed = "must be one regular expression per line, or a JSON list; a comma in one is written [,]"
            raise ConfigurationError(variable, line, allowed)
    return tuple(lines)


_IN_BRACKETS = r"\\.|\[\]?[^\]]*\]|\{[^{}]*\}"


def _parse_as(kind: Any, text: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (tuple, collections.abc.Sequence):
        items = [item.strip() for item in text.split(",") if item.strip()]
        return tuple(_parse_as(typing.get_args(kind)[0], item) for item in items)
    if origin is typing.Literal or kind is str:
        return text
    if kind is bool:
        return _yes_or_no(text)
    return kind(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _in_words(kind: Any) -> str:
    if typing.get_origin(kind) is None:
        return _WORDS.get(kind) or str(kind.__name__)
    return f"{', '.join(_in_words(each) for each in typing.get_args(kind) if each is not ...)}, separated by commas"


_WORDS = {bool: "yes or no", int: "a whole number", float: "a number", str: "a text"}


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Union or type(annotation).__name__ == "UnionType"
