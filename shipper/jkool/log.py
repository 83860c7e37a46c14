"""Log a record that carries fields for jKool."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Union

from ..event import plain
from ..settings import level_number
from .scope import FIELDS
from .warn import about_level

Logger = Union[logging.Logger, "logging.LoggerAdapter[logging.Logger]"]

_PACKAGE = os.path.dirname(__file__)


def log(
    logger: Logger, severity: int | str, message: object, fields: Mapping[str, object], exc_info: object = None
) -> None:
    """Through the logger, as called from outside of this package; an adapter's extras come along."""
    level = level_number("severity", severity)
    extra: dict[str, object] = {}
    while isinstance(logger, logging.LoggerAdapter):  # it would put its extras in the place of ours
        extra = {**(logger.extra or {}), **extra}
        logger = logger.logger
    if not logger.isEnabledFor(level):
        about_level(logger, level)
        return
    extra[FIELDS] = {key: plain(value) for key, value in fields.items()}
    logger.log(level, message, exc_info=_exc_info(exc_info), extra=extra, stacklevel=_caller())


def _exc_info(given: object) -> Any:
    if isinstance(given, BaseException):
        return (type(given), given, given.__traceback__)
    return bool(given)


def _caller() -> int:
    """How far up from our caller the code is that called this package."""
    level = 2
    frame = sys._getframe(2)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == _PACKAGE:
        frame = frame.f_back
        level += 1
    return level
