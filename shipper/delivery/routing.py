"""Which backends an event is for."""

from __future__ import annotations


def is_routed_elsewhere(route: tuple[str, ...] | None, name: str, *, takes_all: bool) -> bool:
    """Whether an event is not for the backend ``name``: without a route it is for all that have ``takes_all``."""
    return not takes_all if route is None else name not in route
