"""Fields of an event for jKool: those that its caller set, and those of the activity around it."""

from __future__ import annotations

import logging
import threading
import uuid
from contextvars import ContextVar, Token

from ..application.capture.handler import add_enricher
from ..event.model import Event
from ..event.sanitize import sanitize
from .metrics import spelled

FIELDS = "_shipper_jkool"
"""Attribute of a record: the fields that `logEvent` and `logActivity` set, by their names on the wire; plain data."""

MAX_EVENT_IDS = 1000
"""In an activity; all of its events are counted."""

_ID = "_shipper_tracking_id"  # attribute of a plain record in an activity
_RAW = ("args", "msg", "relativeCreated")  # what allTags may name and an event does not contain


class Scope:
    """An activity that has not ended: its tracking id, and those of its events."""

    def __init__(self, tracking_id: str) -> None:
        self.tracking_id = tracking_id
        self.count = 0
        self.events: list[str] = []
        self._lock = threading.Lock()  # tasks and copied contexts may share the activity across threads

    def add(self, tracking_id: str) -> None:
        with self._lock:
            self.count += 1
            if len(self.events) < MAX_EVENT_IDS:
                self.events.append(tracking_id)


_current: ContextVar[Scope | None] = ContextVar("shipper_jkool_activity", default=None)


def current_scope() -> Scope | None:
    """The activity around the caller."""
    return _current.get()


def enter(scope: Scope) -> Token[Scope | None]:
    return _current.set(scope)


def leave(token: Token[Scope | None]) -> None:
    try:
        _current.reset(token)
    except ValueError:  # a generator that is closed in another context than it began in, where it was never set
        return


def new_id() -> str:
    return str(uuid.uuid4())


def _fill(event: Event, record: logging.LogRecord) -> None:
    """Add the fields and tags that the record has for jKool, or else the ids of the activity around it."""
    if "allTags" in record.__dict__:
        _fill_tags(event, record)
    fields = record.__dict__.get(FIELDS)
    if isinstance(fields, dict):
        event.kind = "jkool"
        event.data = {**event.data, **fields}
        return
    scope = _current.get()
    if scope is not None:
        within = {"parent-tracking-id": scope.tracking_id, "tracking-id": _id_within(scope, record)}
        event.data = {**event.data, **within}


def _id_within(scope: Scope, record: logging.LogRecord) -> str:
    """The tracking id of a plain record in an activity, the same in each handler."""
    known = record.__dict__.get(_ID)
    if isinstance(known, str):
        return known
    record.__dict__[_ID] = found = new_id()
    scope.add(found)
    return found


def _fill_tags(event: Event, record: logging.LogRecord) -> None:
    names = record.__dict__["allTags"]
    for name in names if isinstance(names, (list, tuple)) else ():
        if name in event.extra or name in _RAW:
            event.extra[name] = sanitize(spelled(record.__dict__.get(name)))


add_enricher(_fill)
