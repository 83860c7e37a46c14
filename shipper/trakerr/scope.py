"""`context(user=...)`: what every event that is logged inside says of its user, session, url and correlation id."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from ..application.handler import add_enricher
from ..event.model import Event

_around: ContextVar[Mapping[str, str]] = ContextVar("shipper_trakerr_context")
_NOTHING: Mapping[str, str] = {}


@contextlib.contextmanager
def context(
    *,
    user: str | None = None,
    session: str | None = None,
    url: str | None = None,
    correlation_id: str | None = None,
) -> Iterator[None]:
    """Fill these fields in every event for Trakerr that is logged inside: by a client, a handler or the root handler.

    What an event says itself wins. Inside another one, what is not given here is the outer one's. Each thread and each
    asyncio task has its own; a task begins with that of the task that made it.
    """
    given = {
        "eventUser": user,
        "eventSession": session,
        "contextURL": url,
        "contextCrossAppCorrelationId": correlation_id,
    }
    token = _around.set({**fields(), **{key: value for key, value in given.items() if value is not None}})
    try:
        yield
    finally:
        _around.reset(token)


def fields() -> Mapping[str, str]:
    """What surrounds the caller, by its keys on the wire."""
    return _around.get(_NOTHING)


def _fill(event: Event, record: logging.LogRecord) -> None:
    if around := fields():
        event.data = {**event.data, **around}


add_enricher(_fill)
