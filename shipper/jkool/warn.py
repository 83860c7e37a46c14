"""What the client finds wrong with a call, said once for each wrong thing, by `warnings`."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from ..backends.jkool_event import fqn_problem

MOST = 1000
"""So many different things are said; then it is enough."""

_PACKAGE = os.path.dirname(__file__)
_said: set[tuple[str, object]] = set()


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
    """The logger's level hides what is logged."""
    given, effective = logging.getLevelName(level), logging.getLevelName(logger.getEffectiveLevel())
    _once(
        "level",
        logger.name,
        f"nothing is sent at level {given} through the logger {logger.name!r}: it lets through {effective} and above; "
        f"call logger.setLevel({level})",
    )


def _once(what: str, value: object, text: str) -> None:
    key = (what, str(value))
    if key in _said or len(_said) >= MOST:
        return
    _said.add(key)
    warnings.warn(text, UserWarning, stacklevel=outside())


def outside() -> int:
    """How many levels up the stack from our caller, itself the first, the code is that called this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == _PACKAGE:
        frame = frame.f_back
        level += 1
    return level
