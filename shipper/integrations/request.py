"""What the integrations of web frameworks share."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

_LOGGED = "_shipper_logged"
_PLAIN = re.compile(r"[\w.:/+=@-]{1,128}")


def request_id(given: str) -> str:
    """The id that a proxy or client gave the request, if it is short and plain; else a new one."""
    return given if _PLAIN.fullmatch(given) else uuid.uuid4().hex


def was_logged(error: BaseException) -> bool:
    """Whether this was called for the exception before: of several middlewares, only the first has to log it."""
    if getattr(error, _LOGGED, False):
        return True
    try:
        setattr(error, _LOGGED, True)
    except AttributeError:  # a class with slots
        return False
    return False


def route_of(scope: Mapping[str, Any]) -> str | None:
    """The pattern of the route that an ASGI framework has chosen, such as ``/orders/{number}``."""
    route = scope.get("route")
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    return path if isinstance(path, str) else None
