"""Query parameters of the control endpoints, checked. ConfigurationError for a wrong one."""

from __future__ import annotations

import math

from starlette.requests import Request

from ...errors import ConfigurationError
from ..faults import SERVICES
from ..services.service import RANKS


def service(request: Request) -> str | None:
    given = request.query_params.get("service") or None
    if given is not None and given not in SERVICES:
        raise ConfigurationError("service", given, f"one of {', '.join(SERVICES)}, or none for all")
    return given


def level(request: Request) -> str:
    given = request.query_params.get("level", "")
    if given and given.lower() not in RANKS:
        raise ConfigurationError("level", given, f"one of {', '.join(RANKS)}")
    return given


def number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigurationError(name, text, "a whole number")
    return int(text)


def number_or(request: Request, name: str, default: int) -> int:
    given = number(request, name)
    return default if given is None else given


def seconds(request: Request, name: str) -> float | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ConfigurationError(name, text, "seconds since the epoch")
    return found
