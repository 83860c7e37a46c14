"""What surrounds an event for jKool: the fields that its caller set, and the activity that it happens in."""

from __future__ import annotations

import logging
import threading
import uuid
from contextvars import ContextVar, Token

from ..application.handler import add_enricher
from ..event.model import Event
from ..event.sanitize import sanitize
from .metrics import spelled

FIELDS = "_shipper_jkool"
"""On a record: the fields that `logEvent` and `logActivity` set, under their names on the wire; plain data."""

MOST = 1000
"""So many events are named in an activity; all of them are counted."""

_ID = "_shipper_tracking_id"  # on a plain record in an activity
_RAW = ("args", "msg", "relativeCreated")  # what allTags may name and an event does not have


class Scope:
    """An activity that is going on: its tracking id, and the tracking ids of the events in it."""

    def __init__(self, tracking_id: str) -> None:
        self.tracking_id = tracking_id
        self.count = 0
        self.events: list[str] = []
        self._lock = threading.Lock()  # tasks and copied contexts may share the activity across threads

    def add(self, tracking_id: str) -> None:
        with self._lock:
            self.count += 1
            if len(self.events) < MOST:
                self.events.append(tracking_id)


_around: ContextVar[Scope | None] = ContextVar("shipper_jkool_activity", default=None)


def around() -> Scope | None:
    """The activity that the caller is in."""
    return _around.get()


def enter(scope: Scope) -> Token[Scope | None]:
    return _around.set(scope)


def leave(token: Token[Scope | None]) -> None:
    try:
        _around.reset(token)
    except ValueError:  # a generator that is closed in another context than it began in: that one never saw us
        return


def new_id() -> str:
    return str(uuid.uuid4())


def _fill(event: Event, record: logging.LogRecord) -> None:
    """Make an event for jKool of what the record says for it."""
    if "allTags" in record.__dict__:
        _fill_tags(event, record)
    fields = record.__dict__.get(FIELDS)
    if isinstance(fields, dict):
        event.kind = "jkool"
        event.data = {**event.data, **fields}
        return
    scope = _around.get()
    if scope is not None:
        within = {"parent-tracking-id": scope.tracking_id, "tracking-id": _id_within(scope, record)}
        event.data = {**event.data, **within}


def _id_within(scope: Scope, record: logging.LogRecord) -> str:
    """The tracking id of a plain record in an activity, the same for each handler that it comes to."""
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
