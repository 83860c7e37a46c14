"""Cuts an event to a size. What is missing is said in the event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .._support.lazy_pattern import LazyPattern
from .codec import SURROGATES, encode
from .exceptions import Frame, elide_middle
from .model import MAX_EVENT, Event, route_names, sanitized
from .sanitize import MAX_KEY

_LEFT_OUT = LazyPattern(r"\[\.\.\. (\d+) characters left out \.\.\.\]\Z")
_MARKER_ROOM = 48  # the longest marker at the end of a text
_SHORT = 256  # bytes: shorter texts are not cut while anything else helps
_SHORTEST = 64


def pack(event: Event) -> bytes:
    """The event without its id, in at most `MAX_EVENT` bytes. The event itself is not changed.

    A longer event is cut. Values that are no plain data are made plain. Never raises.
    """
    try:
        payload = encode(event)
    except Exception:
        event = sanitized(event)
        payload = encode(event)
    if len(payload) <= MAX_EVENT:
        return payload
    return encode(cut(event, MAX_EVENT))


def cut(event: Event, max_bytes: int) -> Event:
    """A copy that packs to at most ``max_bytes``, or to as few as an event can have; the id stays.

    The longest texts are cut first. When that does not do, frames go, then extras and context, then all exceptions
    but the first, then the clients' fields, each with a marker.
    """
    try:
        encode(event)
    except Exception:
        event = sanitized(event)
    for shorter in (replace, _fewer_frames, _without_extras, _one_exception, _without_data):
        event = shorter(event)
        excess = len(encode(event)) - max_bytes
        if excess <= 0:
            return event
        most = _most_bytes(event, excess, _SHORT)
        if most is not None:
            return _with_texts(event, lambda text, most=most: _shortened(text, most))  # type: ignore[misc]
    most = _most_bytes(event, excess, _SHORTEST) or _SHORTEST
    return _with_texts(event, lambda text: _shortened(text, most))


def _most_bytes(event: Event, excess: int, least: int) -> int | None:
    """How long a text may be, in bytes, so that cutting all longer ones makes up for the excess."""
    sizes: list[int] = []

    def measure(text: Any) -> Any:
        size = len(text if type(text) is bytes else text.encode(errors=SURROGATES))
        if size > least:
            sizes.append(size)
        return text

    _with_texts(event, measure)
    if sum(sizes) - least * len(sizes) < excess:
        return None
    low, high = least, max(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(size - middle for size in sizes if size > middle) >= excess:
            low = middle
        else:
            high = middle - 1
    return low


def _shortened(text: Any, most: int) -> Any:
    """The text in at most ``most`` bytes of UTF-8, the marker included."""
    if type(text) is bytes:
        if len(text) <= most:
            return text
        return text[: most - _MARKER_ROOM] + b"[... %d bytes left out ...]" % (len(text) - most + _MARKER_ROOM)
    encoded = text.encode(errors=SURROGATES)
    if len(encoded) <= most:
        return text
    before = 0
    if earlier := _LEFT_OUT.search(text, len(text) - _MARKER_ROOM):
        before = int(earlier[1])
        text = text[: earlier.start()]
    kept = encoded[: most - _MARKER_ROOM].decode(errors="ignore")[: len(text)]
    return f"{kept}[... {before + len(text) - len(kept)} characters left out ...]"


def _with_texts(event: Event, change: Callable[[Any], Any]) -> Event:
    """A copy with every text and every bytes but kind, route and keys changed."""
    return replace(
        event,
        level_name=change(event.level_name),
        logger=change(event.logger),
        message=change(event.message),
        path=change(event.path),
        function=change(event.function),
        process=change(event.process),
        thread=change(event.thread),
        task=None if event.task is None else change(event.task),
        stack=None if event.stack is None else change(event.stack),
        exceptions=[
            replace(
                one,
                type=change(one.type),
                name=change(one.name),
                message=change(one.message),
                notes=[change(note) for note in one.notes],
                frames=[Frame(change(file), line, change(function)) for file, line, function in one.frames],
            )
            for one in event.exceptions
        ],
        extra=_with_leaves(event.extra, change),
        context=_with_leaves(event.context, change),
        data=_with_leaves(event.data, change),
    )


def _with_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if type(value) is str or type(value) is bytes:
        return change(value)
    if type(value) is dict:
        return {key: _with_leaves(item, change) for key, item in value.items()}
    if type(value) is list:
        return [_with_leaves(item, change) for item in value]
    return value


def _fewer_frames(event: Event) -> Event:
    return replace(event, exceptions=[replace(one, frames=elide_middle(one.frames, 20)) for one in event.exceptions])


def _without_extras(event: Event) -> Event:
    return replace(event, extra=_left_out(event.extra), context=_left_out(event.context))


def _one_exception(event: Event) -> Event:
    if not event.exceptions:
        return event
    first, *others = event.exceptions
    notes = [f"[... {len(first.notes)} notes left out ...]"] if first.notes else []
    if others:
        notes.append(f"[... {len(others)} exceptions left out ...]")
    return replace(event, exceptions=[replace(first, frames=elide_middle(first.frames, 5), notes=notes)])


def _without_data(event: Event) -> Event:
    return replace(event, kind=event.kind[:MAX_KEY], route=route_names(event.route), data=_left_out(event.data))


def _left_out(values: dict[str, Any]) -> dict[str, Any]:
    return {"[...]": f"[... {len(values)} items left out ...]"} if values else {}
