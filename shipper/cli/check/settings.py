"""Checks of the settings: which value each has, and where it comes from."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator
from typing import Any

from ...backends.http.proxies import without_credentials
from ...config.settings import Settings
from .result import Result, ok, warning

ENVIRONMENT = "the environment"
DERIVED = "derived"

_SECRETS = ("api_key", "token", "headers", "client_cert")
_GROUPS = ("batching", "retry", "spooling", "redact")
_LEFT_OUT = ("backends", "cwd", "is_named", "joined", "name_from")


def check_settings(settings: Settings, origin: str) -> Iterator[Result]:
    """Yield a line for the app, one for each value that is not the default, and the level of each backend.

    ``origin``: where a value comes from that no variable sets: the call of `shipper.start`, or `ENVIRONMENT` without
    such a call; the value is then derived from other settings.
    """
    yield ok("settings", f"app {settings.app!r}; those that are not listed have their defaults")
    for field in dataclasses.fields(settings):
        if field.name in _GROUPS:
            yield from _fields(getattr(settings, field.name), field.name, origin)
        elif field.name not in _LEFT_OUT:
            value = getattr(settings, field.name)
            if value != _default(field):
                yield ok("setting", f"{field.name} = {value!r} ({_origin(field.name, origin)})")
    for backend in settings.backends:
        if dataclasses.is_dataclass(backend) and not isinstance(backend, type):
            yield from _fields(backend, getattr(backend, "name", ""), origin)
    yield from _levels(settings)


def _fields(group: Any, prefix: str, origin: str) -> Iterator[Result]:
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if field.name.startswith("_") or value == _default(field) or (field.name == "level" and value == group.level):
            continue
        where = _origin(f"{prefix}_{field.name}", origin)
        if where == DERIVED:  # from the other settings of the group
            continue
        yield ok("setting", f"{prefix}.{field.name} = {_shown(field.name, value)} ({where})")


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _origin(name: str, origin: str) -> str:
    variable = f"SHIPPER_{name.upper()}"
    if os.environ.get(variable):
        return f"from {variable}"
    return DERIVED if origin == ENVIRONMENT else f"from {origin}"


def _shown(name: str, value: object) -> str:
    if name in _SECRETS:
        return f"set, {len(value)} characters" if isinstance(value, str) else "set"
    return repr(without_credentials(value)) if name in ("url", "endpoint") and isinstance(value, str) else repr(value)


def _levels(settings: Settings) -> Iterator[Result]:
    """From which level each backend gets records; a warning if it gets no warnings."""
    for backend in settings.backends:
        level = max(backend.level, settings.level)
        text = f"{backend.name} gets records from {_name(level)} on"
        if level > logging.WARNING:
            yield warning("level", f"{text}: warnings are not sent there", "Lower its level, or the setting `level`.")
        else:
            yield ok("level", text)


def _name(level: int) -> str:
    return logging.getLevelName(level) if level else "every level"
