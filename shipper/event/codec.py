"""Event ↔ bytes; the only module that imports msgpack.

Layout: a msgpack array of the schema version, then the event's fields in the order of `_FIELDS`. No msgpack extension
types, all keys are text. `encode` does not bound the size; `truncate.pack`, which callers use instead, does.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import msgpack

from ..errors import UndecodableError
from .exceptions import MAX_EXCEPTIONS, RELATIONS, ExceptionInfo, Frame
from .model import MAX_EVENT, Event, EventId, sanitized
from .sanitize import is_flat, is_plain
from .scalars import END_OF_TIME, FIRST_SECOND, safe_str

SURROGATES = "surrogatepass"
"""Error handler for lone surrogates (file names, broken input): they travel as three bytes that are not valid UTF-8."""

SCHEMA = 1
"""The version of the layout that `encode` writes, and the only one that `unpack` reads."""

ORIGINAL_ID = "shipper.id"
"""A key of ``data``: the id of an event that is queued again. `unpack` prefers it to the id of the frames."""

_FIELDS = (
    "kind", "route", "time", "level", "level_name", "logger", "message", "path", "line", "function", "pid", "process",
    "tid", "thread", "task", "exceptions", "stack", "extra", "context", "data",
)  # fmt: skip
_read = attrgetter(*_FIELDS)


def _shapes() -> frozenset[tuple[Any, ...]]:
    """Return the types that packed values may have: the version's, then the fields' in the order of `_FIELDS`."""
    none = type(None)
    where = (str, str, str, str, int, str, int, str, int, str)  # level_name to thread
    return frozenset(
        (int, str, route, float, int, *where, task, list, stack, dict, dict, dict)
        for route, task, stack in itertools.product((none, list), (none, str), (none, str))
    )


_SHAPES = _shapes()
_USUAL_TYPES = max(map(list, _SHAPES), key=lambda types: types.count(type(None)))  # neither route, task nor stack
_EXCEPTION_SHAPE = (str, str, str, str, list, list, int)
_FRAME_SHAPE = (str, int, str)


def sanitize_event(event: Event) -> None:
    """Make everything in the event plain data, in place; an event that is plain already stays as it is."""
    try:
        _check(_values(event))
    except Exception:
        plain = sanitized(event)
        for name in _FIELDS:
            setattr(event, name, getattr(plain, name))


def encode(event: Event) -> bytes:
    """Pack the event without its id, whatever its size.

    Raises an exception of any type when the event holds anything that `unpack` would refuse.
    """
    values = _values(event)
    _check(values)
    return pack_values(values)


Pack = Callable[[Any], bytes]

idle_packers: list[Pack] = []
"""Pool of idle msgpack packers: making one costs more than packing an event.

A caller pops one, or makes a `new_packer`, and appends it afterwards. No packer is used by two callers at a time: not
by another thread, and not by a finalizer that logs while this thread packs.
"""


_PACKER_BYTES = 4096
_FLOAT64 = 0xCB  # the byte before a float in msgpack
_FLOAT = struct.Struct(">d")


def new_packer() -> Pack:
    pack: Pack = _packer(unicode_errors=SURROGATES).pack
    return pack


def _packer(**options: str) -> Any:
    try:
        # The buffer grows for a large event. The default of 256 KiB would be allocated by every process.
        return msgpack.Packer(buf_size=_PACKER_BYTES, **options)
    except TypeError:  # before msgpack 1.1
        return msgpack.Packer(**options)


@functools.lru_cache(maxsize=8)
def packed_head(kind: str) -> bytes:
    """The first bytes of every event of this kind that has no route."""
    head: bytes = _packer().pack_array_header(1 + len(_FIELDS))
    return head + pack_values(SCHEMA, kind, None)


def pack_values(*values: Any) -> bytes:
    """Pack consecutive values of an event, as they are in a packed event."""
    try:
        pack = idle_packers.pop()
    except IndexError:
        pack = new_packer()
    packed = b"".join(map(pack, values))
    idle_packers.append(pack)
    return packed


def _values(event: Event) -> list[Any]:
    values = [SCHEMA, *_read(event)]
    if values[2] is not None:
        values[2] = list(values[2])
    if event.exceptions:
        values[16] = [
            [one.relation, one.type, one.name, one.message, one.frames, one.notes, one.parent]
            for one in event.exceptions
        ]
    return values


def packed_time(payload: bytes) -> float | None:
    """Return the time of a packed event without unpacking it; None unless its kind is ``log``, without a route."""
    head = packed_head("log")
    try:
        is_usual = payload.startswith(head) and payload[len(head)] == _FLOAT64
        return float(_FLOAT.unpack_from(payload, len(head) + 1)[0]) if is_usual else None
    except (IndexError, struct.error):
        return None


def unpack(payload: bytes, id: EventId | None = None) -> Event:
    """Return the packed event with ``id`` or its `ORIGINAL_ID`; any other bytes raise `UndecodableError` only."""
    if len(payload) > MAX_EVENT:
        raise UndecodableError(f"{len(payload)} bytes are more than an event has")
    try:
        values = msgpack.unpackb(payload, timestamp=1, ext_hook=_refuse, unicode_errors=SURROGATES)
        _check(values)
    except Exception as exc:
        raise UndecodableError(f"no event of schema version {SCHEMA}: {safe_str(exc, 200)}") from exc
    if values[2] is not None:
        values[2] = tuple(values[2])
    if values[16]:
        values[16] = [
            ExceptionInfo(relation, kind, name, message, [Frame(*frame) for frame in frames], notes, parent)
            for relation, kind, name, message, frames, notes, parent in values[16]
        ]
    if values[20] and ORIGINAL_ID in values[20]:
        id = EventId.from_text(values[20].pop(ORIGINAL_ID)) or id
    return Event(*values[1:], id)  # type: ignore[call-arg] # mypy takes the values for all there are


def _refuse(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code}")


def _check(values: list[Any]) -> None:
    """Raise ValueError unless the values have the types, the order and the bounds of an event."""
    if type(values) is not list or not values or values[0] != SCHEMA:
        raise ValueError(f"schema version {values[0] if type(values) is list and values else None}")
    types = [*map(type, values)]
    if types != _USUAL_TYPES and tuple(types) not in _SHAPES:
        raise ValueError("fields of the wrong type")
    if not FIRST_SECOND <= values[3] < END_OF_TIME:
        raise ValueError("a time that no calendar has")
    if values[2] and {*map(type, values[2])} != {str}:
        raise ValueError("a route that is no list of names")
    if values[16]:
        _check_exceptions(values[16])
    for fields_ in values[18:]:
        if fields_ and not is_flat(fields_) and not is_plain(fields_):
            raise ValueError("a value that is no plain data")


def _check_exceptions(exceptions: list[Any]) -> None:
    if len(exceptions) > MAX_EXCEPTIONS:
        raise ValueError("too many exceptions")
    for place, one in enumerate(exceptions):
        if type(one) is not list or tuple(map(type, one)) != _EXCEPTION_SHAPE or one[0] not in RELATIONS:
            raise ValueError("an exception that is none")
        if not 0 <= one[6] < max(place, 1):
            raise ValueError("an exception without a place in the chain")
        if one[5] and {*map(type, one[5])} != {str}:
            raise ValueError("notes that are no texts")
        for frame in one[4]:
            if type(frame) not in _SEQUENCES or tuple(map(type, frame)) != _FRAME_SHAPE:
                raise ValueError("a frame that is none")


_SEQUENCES = frozenset({list, tuple, Frame})
