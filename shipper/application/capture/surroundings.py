"""What surrounds a logging call: fields that the application has bound, and OpenTelemetry's current span.

Both are part of the event's ``context``. Bound fields are in a context variable: a thread starts without any, an
asyncio task with those of the task that made it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from ...event.model import SPAN_ID, TRACE_FLAGS, TRACE_ID
from ...event.sanitize import sanitize_mapping

Fields = Mapping[str, Any]

_bound: ContextVar[Fields | None] = ContextVar("shipper_bound", default=None)


def bind(**fields: object) -> None:
    """Add fields to every event that is logged from now on in this thread or asyncio task.

    A field of the same name is replaced. The values are copied now: later changes in them are not shipped.
    """
    _bound.set({**(_bound.get() or {}), **sanitize_mapping(fields)})


def unbind(*names: str) -> None:
    """Remove the bound fields of these names; without names, all. Names that are not bound are ignored."""
    left = {name: value for name, value in (_bound.get() or {}).items() if names and name not in names}
    _bound.set(left or None)


@contextlib.contextmanager
def bound(**fields: object) -> Iterator[None]:
    """`bind` for the duration of a block."""
    before = _bound.get()
    token = _bound.set({**(before or {}), **sanitize_mapping(fields)})
    try:
        yield
    finally:
        try:
            _bound.reset(token)
        except ValueError:  # a generator that is closed in another context than it began in
            _bound.set(before)


def bound_fields() -> Fields | None:
    """The bound fields, as plain data; the same object until they change. None when there are none."""
    return _bound.get()


def current_span() -> Fields | None:
    """``trace_id``, ``span_id`` (hexadecimal) and ``trace_flags`` of the current span; None without one.

    OpenTelemetry is never imported here: until the application has imported it, there is no span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        trace_id = context.trace_id
        if not trace_id:
            return None
        return {
            TRACE_ID: f"{trace_id:032x}",
            SPAN_ID: f"{context.span_id:016x}",
            TRACE_FLAGS: int(context.trace_flags),
        }
    except Exception:  # OpenTelemetry is just being imported, or the span is of another library
        return None


def surroundings() -> dict[str, Any]:
    """The current span and the bound fields, which win over fields of the span."""
    return {**(current_span() or {}), **(_bound.get() or {})}
