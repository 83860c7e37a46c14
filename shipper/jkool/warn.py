"""Warnings about wrong arguments, through `warnings`, once for each value."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from ..backends.wire.jkool_event import fqn_problem

MAX_WARNINGS = 1000
"""Different ones, per process."""

_PACKAGE = os.path.dirname(__file__)
_warned: set[tuple[str, object]] = set()


def about_fqn(source_fqn: str | None) -> None:
    problem = None if source_fqn is None else fqn_problem(source_fqn)
    if problem is not None:
        _once(
            "source_fqn", source_fqn, f"source_fqn={source_fqn!r}: TYPE=name#TYPE=name…; {problem}; it is sent as it is"
        )


def about_status(status: str) -> None:
    if status not in ("UNKNOWN", "END", "EXCEPTION"):
        _once("status", status, f"status={status!r}: UNKNOWN, END or EXCEPTION; it is sent as it is")


def about_level(logger: logging.Logger, level: int) -> None:
    """Warn that the logger's level hides the event."""
    given, effective = logging.getLevelName(level), logging.getLevelName(logger.getEffectiveLevel())
    _once(
        "level",
        logger.name,
        f"nothing is sent at level {given} through the logger {logger.name!r}: it lets through {effective} and above; "
        f"call logger.setLevel({level})",
    )


def _once(what: str, value: object, text: str) -> None:
    key = (what, str(value))
    if key in _warned or len(_warned) >= MAX_WARNINGS:
        return
    _warned.add(key)
    warnings.warn(text, UserWarning, stacklevel=outside())


def outside() -> int:
    """The stacklevel, counted from our caller, of the code that called this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == _PACKAGE:
        frame = frame.f_back
        level += 1
    return level
