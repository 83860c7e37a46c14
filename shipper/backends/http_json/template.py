"""Templates: JSON values in which ``{name}`` stands for a value of an event.

A text that is only a placeholder becomes the value itself, with its type: ``"{level}"`` becomes 40. In a longer text
a placeholder becomes text: ``"{logger}: {message}"``. ``{{`` and ``}}`` are braces. For a placeholder without a value
(an event without exception, an extra that is missing) a key is left out, a list has null, and a text has nothing.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ConfigurationError
from ...event.model import Event
from ..protocol import AppContext
from ..wire.json_body import json_text
from ..wire.source_lines import exception_text

Render = Callable[[Event, AppContext], Any]

MISSING = object()
"""Stands for the value of a placeholder that has none."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.\-]*)\}|[{}]")


def _iso(event: Event, context: AppContext) -> str:
    moment = datetime.datetime.fromtimestamp(event.time, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _first_exception(attribute: str) -> Render:
    def value(event: Event, context: AppContext) -> Any:
        return getattr(event.exceptions[0], attribute) if event.exceptions else MISSING

    return value


def _attribute(name: str) -> Render:
    def value(event: Event, context: AppContext) -> Any:
        found = getattr(event, name)
        return MISSING if found is None else found

    return value


VALUES: dict[str, Render] = {
    **{
        name: _attribute(name)
        for name in (
            "kind", "time", "level", "level_name", "logger", "message", "path", "line", "function", "pid", "process",
            "tid", "thread", "task", "stack", "extra", "context", "data",
        )
    },
    "id": lambda event, context: MISSING if event.id is None else event.id.uuid_text,
    "iso": _iso,
    "time_ms": lambda event, context: round(event.time * 1_000),
    "time_ns": lambda event, context: str(round(event.time * 1_000_000) * 1_000),  # a float holds microseconds only
    "severity": lambda event, context: event.level_name.lower(),
    "fields": lambda event, context: {**event.context, **event.extra},
    "exception": lambda event, context: exception_text(event, context) or MISSING,
    "exception_type": _first_exception("type"),
    "exception_message": _first_exception("message"),
    "app": lambda event, context: context.app,
    "host": lambda event, context: context.host,
    "address": lambda event, context: context.address,
}  # fmt: skip
"""What a placeholder may name: fields of the event, its time in other forms, the app and the machine.

``fields``: context and extras together. ``{extra.NAME}`` is one extra; likewise context, data and fields.
"""


def compile_template(setting: str, template: Any, more: Mapping[str, Render] | None = None) -> Render:
    """Return a function that fills the template in. ConfigurationError for a template that is not valid.

    ``more``: further placeholders.
    """
    if isinstance(template, str):
        return _compile_text(setting, template, {**VALUES, **(more or {})})
    if isinstance(template, Mapping):
        members = {str(key): compile_template(setting, value, more) for key, value in template.items()}
        return lambda event, context: {
            key: value for key, render in members.items() if (value := render(event, context)) is not MISSING
        }
    if isinstance(template, (list, tuple)):
        renders = [compile_template(setting, value, more) for value in template]
        return lambda event, context: [
            None if (value := render(event, context)) is MISSING else value for render in renders
        ]
    if template is None or isinstance(template, (bool, int, float)):
        return lambda event, context: template
    raise ConfigurationError(setting, template, "JSON values: texts, numbers, mappings and lists")


def _compile_text(setting: str, text: str, known: Mapping[str, Render]) -> Render:
    parts: list[str | Render] = []
    position = 0
    for token in _TOKEN.finditer(text):
        parts.append(text[position : token.start()])
        position = token.end()
        if token[1]:
            parts.append(_placeholder(setting, token[1], known))
        elif token[0] in ("{{", "}}"):
            parts.append(token[0][0])
        else:
            raise ConfigurationError(setting, text, "a brace that begins no placeholder is written twice")
    parts.append(text[position:])
    parts = [part for part in parts if part != ""]
    if len(parts) == 1 and callable(parts[0]):
        return parts[0]
    return lambda event, context: "".join(
        part if isinstance(part, str) else _as_text(part(event, context)) for part in parts
    )


def _placeholder(setting: str, name: str, known: Mapping[str, Render]) -> Render:
    if name in known:
        return known[name]
    group, dot, key = name.partition(".")
    if dot and group in ("extra", "context", "data", "fields"):
        whole = known[group]
        return lambda event, context: whole(event, context).get(key, MISSING)
    names = ", ".join(sorted([*known, "extra.NAME", "context.NAME", "data.NAME", "fields.NAME"]))
    raise ConfigurationError(setting, f"{{{name}}}", f"one of {names}")


def _as_text(value: Any) -> str:
    if value is MISSING or value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)
