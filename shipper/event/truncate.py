"""Cut an event to a size. The largest parts are cut first, and the event says what is missing.

Whatever holds parts - the event, a dict, a list, an exception - shares its bytes among them in the same way: parts up
to a size stay whole, and larger ones are cut to that size. So small values (level, type, user, version, ids) stay,
while frames, long texts and large values go. Items are left out of a list or a dict only when cutting each of them
would leave nothing to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from . import markers
from .codec import SURROGATES, encode, pack_values
from .exceptions import ExceptionInfo, Frame
from .markers import MARKER_BYTES, MARKER_KEY
from .model import MAX_EVENT, Event, route_names, sanitized
from .scalars import MAX_KEY

_MIN_TEXT = 256  # bytes: a text is not cut to less while items of its container can be left out
_MIN_ITEM = 512  # bytes: the same for an exception, and for an item of a list that is no text
_MIN_LARGE = 4096  # bytes that all values of `Event.data` above `_MIN_TEXT` keep together
_MIN_CONTAINER = 64  # bytes of a list or dict that holds nothing but a marker
_HEADER = 5  # bytes in front of a packed text or container, at most

_TEXTS = ("level_name", "logger", "message", "path", "function", "process", "thread", "task", "stack")
_DICTS = ("extra", "context", "data")


def pack(event: Event) -> bytes:
    """Pack the event without its id in at most `MAX_EVENT` bytes. The event itself is not changed.

    A longer event is cut. Values that are no plain data are sanitized. Never raises.
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
    """Return a copy that packs to at most ``max_bytes``, or to the least that cutting allows; the id stays.

    Items of `Event.data` of up to 256 bytes are never cut: they identify the event to its service.
    """
    try:
        payload = encode(event)
    except Exception:
        event = sanitized(event)
        payload = encode(event)
    if len(payload) <= max_bytes:
        return replace(event)
    event = replace(event, kind=event.kind[:MAX_KEY], route=route_names(event.route))
    parts: dict[str, Any] = {name: getattr(event, name) for name in (*_TEXTS, *_DICTS) if getattr(event, name)}
    sizes = {name: _size(part) for name, part in parts.items()}
    minimum = {name: _minimum(part, sizes[name]) for name, part in parts.items()}
    if event.data:
        minimum["data"] = _minimum_of_data(event.data)
    if event.exceptions:
        sizes["exceptions"] = _size(_as_lists(event.exceptions))
        minimum["exceptions"] = min(sizes["exceptions"], _MIN_ITEM)
    fixed = len(encode(event)) - sum(sizes.values())
    shares = _shares(sizes, minimum, max_bytes - fixed)
    changes = {name: _shortened(part, shares[name]) for name, part in parts.items() if shares[name] < sizes[name]}
    if "data" in changes:
        changes["data"] = _shortened_dict(event.data, shares["data"], keep=_MIN_TEXT)
    if event.exceptions and shares["exceptions"] < sizes["exceptions"]:
        changes["exceptions"] = _shortened_exceptions(event.exceptions, shares["exceptions"])
    return replace(event, **changes)


# Sharing bytes --------------------------------------------------------------------------------------------------------


def _shares(sizes: Mapping[Any, int], minimum: Mapping[Any, int], max_bytes: int) -> dict[Any, int]:
    """Return how many bytes each part may have: one limit for all that are cut, but at least a part's minimum."""
    low, high = 0, max(sizes.values(), default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(max(min(size, middle), minimum[part]) for part, size in sizes.items()) <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return {part: max(min(size, low), minimum[part]) for part, size in sizes.items()}


def _size(value: Any) -> int:
    return len(pack_values(value))


def _minimum(value: Any, size: int) -> int:
    """Return the number of bytes below which the part is not cut."""
    kind = type(value)
    if kind is str or kind is bytes:
        return min(size, _MIN_TEXT)
    return min(size, _MIN_CONTAINER) if kind is dict or kind is list else size


def _minimum_of_data(data: Mapping[str, Any]) -> int:
    small = large = 0
    for key, value in data.items():
        size = _size(key) + _size(value)
        if size <= _MIN_TEXT:
            small += size
        else:
            large += min(size, _size(key) + _MIN_TEXT)
    return _HEADER + MARKER_BYTES + len(MARKER_KEY) + small + min(large, _MIN_LARGE)


# Values ---------------------------------------------------------------------------------------------------------------


def _shortened(value: Any, max_bytes: int) -> Any:
    kind = type(value)
    if kind is str:
        return _shortened_text(value, max_bytes - _HEADER)
    if kind is bytes:
        return _shortened_bytes(value, max_bytes - _HEADER)
    if kind is dict:
        return _shortened_dict(value, max_bytes)
    if kind is list:
        return _shortened_list(value, max_bytes)
    if kind is Frame:
        half = max_bytes // 2 - _HEADER
        return Frame(_shortened_text(value.file, half), value.line, _shortened_text(value.function, half))
    return value


def _shortened_bytes(value: bytes, max_bytes: int) -> bytes:
    if len(value) <= max_bytes:
        return value
    kept = max(0, max_bytes - MARKER_BYTES)
    return value[:kept] + markers.left_out(len(value) - kept, "bytes").encode()


def _shortened_text(text: str, max_bytes: int) -> str:
    """The text in at most ``max_bytes`` of UTF-8, the marker included."""
    encoded = text.encode(errors=SURROGATES)
    if len(encoded) <= max_bytes:
        return text
    before = markers.count_in(text, "characters")
    if before:
        text = text[: text.rindex("[... ")]
    kept = encoded[: max(0, max_bytes - MARKER_BYTES)].decode(errors="ignore")[: len(text)]
    return kept + markers.left_out(before + len(text) - len(kept), "characters")


def _shortened_dict(values: dict[str, Any], max_bytes: int, keep: int = 0) -> dict[str, Any]:
    """Cut values; leave items out, the largest first, where that is not enough. Items up to ``keep`` bytes stay."""
    before = markers.count_in(values.get(MARKER_KEY), "items")
    if before:
        values = {key: value for key, value in values.items() if key != MARKER_KEY}
    sizes = {key: _size(value) for key, value in values.items()}
    keys = {key: _size(key) for key in values}
    minimum = {
        key: sizes[key] if keys[key] + sizes[key] <= keep else _minimum(value, sizes[key])
        for key, value in values.items()
    }
    left = max_bytes - _HEADER - MARKER_BYTES - len(MARKER_KEY) - sum(keys.values())
    excess = sum(minimum.values()) - left
    order = {key: (keys[key] + sizes[key], place) for place, key in enumerate(values)}
    for key in sorted(values, key=order.__getitem__, reverse=True):
        if excess <= 0 or keys[key] + sizes[key] <= keep:
            break
        excess -= keys[key] + minimum.pop(key)
        left += keys[key]
    shares = _shares({key: sizes[key] for key in values if key in minimum}, minimum, left)
    result = {key: _cut_to(values[key], sizes[key], share) for key, share in shares.items()}
    missing = before + len(values) - len(result)
    return {**result, MARKER_KEY: markers.left_out(missing, "items")} if missing else result


def _shortened_list(items: list[Any], max_bytes: int) -> list[Any]:
    """Cut items; where that is not enough, leave frames out from the middle, or other items from the end."""
    sizes = [_size(item) for item in items]
    what = markers.noun(items)
    marker = markers.marker_item(markers.left_out(10**6, what), items[0])
    left = max_bytes - _HEADER
    minimum = [
        min(size, _MIN_TEXT if type(item) is str else _MIN_ITEM) for item, size in zip(items, sizes, strict=True)
    ]
    if sum(minimum) <= left:
        kept = list(range(len(items)))
    else:
        left -= _size(marker)
        kept = _first_that_fit(_outside_in(len(items)) if what == "frames" else range(len(items)), minimum, left)
    shares = _shares({at: sizes[at] for at in kept}, {at: minimum[at] for at in kept}, left)
    result = [_cut_to(items[at], sizes[at], shares[at]) for at in kept]
    if len(kept) == len(items):
        return result
    gap = next((place for place, at in enumerate(kept) if place != at), len(kept))
    missing = markers.count_items((item for at, item in enumerate(items) if at not in shares), what)
    result.insert(gap, markers.marker_item(markers.left_out(missing, what), items[0]))
    return result


def _cut_to(value: Any, size: int, share: int) -> Any:
    return value if size <= share else _shortened(value, share)


def _outside_in(count: int) -> Iterable[int]:
    """Yield places from both ends to the middle, the last one first: the last frame raised the exception."""
    for place in range((count + 1) // 2):
        yield count - 1 - place
        if place < count - 1 - place:
            yield place


def _first_that_fit(places: Iterable[int], sizes: list[int], max_bytes: int) -> list[int]:
    kept: list[int] = []
    for place in places:
        max_bytes -= sizes[place]
        if max_bytes < 0:
            break
        kept.append(place)
    return sorted(kept)


# Exceptions -----------------------------------------------------------------------------------------------------------


def _as_lists(exceptions: list[ExceptionInfo]) -> list[list[Any]]:
    return [[one.relation, one.type, one.name, one.message, one.frames, one.notes, one.parent] for one in exceptions]


def _shortened_exceptions(exceptions: list[ExceptionInfo], max_bytes: int) -> list[ExceptionInfo]:
    """Cut exceptions, or leave out the last ones; the notes of the first say how many."""
    sizes = list(map(_size, _as_lists(exceptions)))
    minimum = [min(size, _MIN_ITEM) for size in sizes]
    left = max_bytes - _HEADER
    kept = range(len(exceptions))
    if sum(minimum) > left:
        left -= MARKER_BYTES
        kept = range(max(1, len(_first_that_fit(kept, minimum, left))))
    shares = _shares({at: sizes[at] for at in kept}, {at: minimum[at] for at in kept}, left)
    result = [
        exceptions[at] if sizes[at] <= share else _shortened_info(exceptions[at], share) for at, share in shares.items()
    ]
    if len(result) < len(exceptions):
        missing = markers.left_out(len(exceptions) - len(result), "exceptions")
        result[0] = replace(result[0], notes=[*result[0].notes, missing])
    return result


def _shortened_info(one: ExceptionInfo, max_bytes: int) -> ExceptionInfo:
    parts: dict[str, Any] = {"type": one.type, "name": one.name, "message": one.message}
    parts |= {"notes": one.notes} if one.notes else {}
    parts |= {"frames": one.frames} if one.frames else {}
    sizes = {name: _size(part) for name, part in parts.items()}
    minimum = {name: _minimum(part, sizes[name]) for name, part in parts.items()}
    fixed = _size([one.relation, "", "", "", [], [], one.parent])
    shares = _shares(sizes, minimum, max_bytes - fixed)
    return replace(one, **{name: _cut_to(part, sizes[name], shares[name]) for name, part in parts.items()})
