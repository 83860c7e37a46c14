"""`context(user=...)`: user, session, url and correlation id of the events that are logged in a block."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

from ..application.capture.handler import add_enricher
from ..event.model import Event

_current: ContextVar[Mapping[str, str]] = ContextVar("shipper_trakerr_context")
_NOTHING: Mapping[str, str] = {}


@contextlib.contextmanager
def context(
    *,
    user: str | None = None,
    session: str | None = None,
    url: str | None = None,
    correlation_id: str | None = None,
) -> Iterator[None]:
    """Set these fields in every event for Trakerr that is logged in the block, through a client or any handler.

    Fields that an event has already stay. In a nested block, what is not given has the outer block's value. Each thread
    and each asyncio task has its own context; a task starts with a copy of that of the task that made it.
    """
    given = {
        "eventUser": user,
        "eventSession": session,
        "contextURL": url,
        "contextCrossAppCorrelationId": correlation_id,
    }
    token = _current.set({**fields(), **{key: value for key, value in given.items() if value is not None}})
    try:
        yield
    finally:
        _current.reset(token)


def fields() -> Mapping[str, str]:
    """The fields of the blocks around the caller, by their keys on the wire."""
    return _current.get(_NOTHING)


def _fill(event: Event, record: logging.LogRecord) -> None:
    if surrounding := fields():
        event.data = {**event.data, **surrounding}


add_enricher(_fill)
