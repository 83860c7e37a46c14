"""Log a record that carries fields for jKool."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Union

from ..backends.settings import validators
from ..event.sanitize import sanitize
from .metrics import spelled
from .scope import FIELDS, current_scope
from .warn import about_level, outside

Logger = Union[logging.Logger, "logging.LoggerAdapter[logging.Logger]"]
_PLAIN = ("id-set",)
"""Plain data already, and longer than `sanitize` allows."""


def log(
    logger: Logger, severity: int | str, message: object, fields: Mapping[str, object], exc_info: object = None
) -> None:
    """Log as if called from outside this package; with an adapter, its extras are added."""
    level = validators.level("severity", severity)
    extra: dict[str, object] = {}
    while isinstance(logger, logging.LoggerAdapter):  # it would replace our extras by its own
        extra = {**(logger.extra or {}), **extra}
        logger = logger.logger
    if not logger.isEnabledFor(level):
        about_level(logger, level)
        return
    own = {key: value if key in _PLAIN else sanitize(spelled(value)) for key, value in fields.items()}
    extra[FIELDS] = {**_within(fields), **own}
    logger.log(level, message, exc_info=_exc_info(exc_info), extra=extra, stacklevel=outside())


def _within(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields from the surrounding activity. Taken now: a queue may pass the record to another thread."""
    scope = current_scope()
    if scope is None:
        return {}
    tracking_id = fields.get("tracking-id")
    if fields.get("type") != "ACTIVITY" and tracking_id is not None:
        scope.add(str(tracking_id))
    return {"parent-tracking-id": scope.tracking_id}


def _exc_info(given: object) -> Any:
    if isinstance(given, BaseException):
        return (type(given), given, given.__traceback__)
    return bool(given)
