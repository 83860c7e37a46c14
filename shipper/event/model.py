"""What travels: an event ↔ bytes, cut to size; the only room that imports msgpack.

On the way an event is a msgpack array: schema version, then the event's fields in the order of `_FIELDS`. Nothing in
it is a msgpack extension, every key is text, and it is never longer than `MAX_EVENT`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from .._support.lazy_pattern import Expression
from .._support.values import Values, field, replaced
from ..errors import UndecodableError
from .exceptions import MAX_EXCEPTIONS, RELATIONS, Frame, Raised, mended_exceptions, middle_out
from .sanitize import (
    END_OF_TIME,
    FIRST_SECOND,
    MAX_ITEMS,
    MAX_KEY,
    MAX_TEXT,
    as_dict,
    as_integer,
    as_name,
    as_seconds,
    as_text,
    guarded,
    is_flat,
    is_plain,
)

if TYPE_CHECKING:
    import uuid

MAX_EVENT = MAX_TEXT
"""The most bytes one packed event has, 256 KiB; longer text is cut with a marker that says how much."""

SURROGATES = "surrogatepass"
"""Half surrogates (file names, broken input) travel as they are, as three bytes that are not quite UTF-8."""

SCHEMA = 1
"""The version of the layout that `pack` writes, and the only one that `unpack` reads."""


class EventId(NamedTuple):
    """Process token (8 bytes, 16 hex digits) and sequence number; the same at every retry."""

    token: bytes
    seq: int

    @property
    def uuid(self) -> uuid.UUID:
        """The id as a UUID: the token's bytes, then the sequence number, with version and variant bits of a v4."""
        import uuid  # not every process that logs needs it

        return uuid.UUID(bytes=self.token + self.seq.to_bytes(8, "big"), version=4)

    @property
    def uuid_text(self) -> str:
        """``str(self.uuid)``, without the way over the object: every event that is sent needs it."""
        token, seq = self
        return f"{_uuid_start(token, seq >> 48)}{seq & 0xFFFFFFFFFFFF:012x}"

    def __str__(self) -> str:
        return f"{self.token.hex()}-{self.seq}"


@functools.lru_cache(maxsize=64)
def _uuid_start(token: bytes, high: int) -> str:
    digits = token.hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:]}-{high & 0x3FFF | 0x8000:04x}-"


class Event(Values, frozen=False):
    """What travels. Everything in it is plain data: str, int, float, bool, None, bytes, list, dict with str keys."""

    kind: str = "log"  # "log", or what the clients put in: "trakerr", "jkool"
    route: tuple[str, ...] | None = None  # names of the backends it is for; None is all of them
    time: float = 0.0  # seconds since the epoch, record.created
    level: int = 0
    level_name: str = ""
    logger: str = ""
    message: str = ""
    path: str = ""
    line: int = 0
    function: str = ""
    pid: int = 0
    process: str = ""
    tid: int = 0
    thread: str = ""
    task: str | None = None  # asyncio's task name
    exceptions: list[Raised] = field(default_factory=list)  # the exception first, then causes, contexts, members
    stack: str | None = None  # stack_info
    extra: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)  # what the `context=` callable gave
    data: dict[str, Any] = field(default_factory=dict)  # kinds "trakerr" and "jkool": the fields their client set
    id: EventId | None = None  # set by whoever took it out of a queue or journal


# Event ↔ bytes --------------------------------------------------------------------------------------------------------

_FIELDS = (
    "kind", "route", "time", "level", "level_name", "logger", "message", "path", "line", "function", "pid", "process",
    "tid", "thread", "task", "exceptions", "stack", "extra", "context", "data",
)  # fmt: skip
_read = attrgetter(*_FIELDS)


def _shapes() -> frozenset[tuple[Any, ...]]:
    """The types that the values may have on the way: the version's, then the fields' in the order of `_FIELDS`."""
    none = type(None)
    where = (str, str, str, str, int, str, int, str, int, str)  # level_name to thread
    return frozenset(
        (int, str, route, float, int, *where, task, list, stack, dict, dict, dict)
        for route, task, stack in itertools.product((none, list), (none, str), (none, str))
    )


_SHAPES = _shapes()
_USUAL_TYPES = max(map(list, _SHAPES), key=lambda types: types.count(type(None)))  # neither route, task nor stack
_RAISED_SHAPE = (str, str, str, str, list, list, int)
_FRAME_SHAPE = (str, int, str)


def pack(event: Event) -> bytes:
    """The event without its id, in at most `MAX_EVENT` bytes; does not change it.

    Too long an event is packed as `cut` makes it. What a user has put into it is made plain first.
    """
    try:
        payload = _packed(event)
    except Exception:
        event = _mended(event)
        payload = _packed(event)
    if len(payload) <= MAX_EVENT:
        return payload
    return _packed(cut(event, MAX_EVENT))


def mend(event: Event) -> None:
    """Make everything in the event plain data, in place; an event that is plain stays as it is."""
    try:
        _check(_values(event))
    except Exception:
        plain = _mended(event)
        for name in _FIELDS:
            setattr(event, name, getattr(plain, name))


def _packed(event: Event) -> bytes:
    """Raises when anything in the event is not what `unpack` would take."""
    values = _values(event)
    _check(values)
    return parts(values)


Pack = Callable[[Any], bytes]

idle_packs: list[Pack] = []
"""What packs a value, and is nobody's at this moment: making one costs more than packing an event. Whoever packs takes
one out, or a `new_pack`, and puts it back: another thread, or a finalizer that logs in the middle of packing, must not
have the same."""


def new_pack() -> Pack:
    pack: Pack = msgpack.Packer(unicode_errors=SURROGATES).pack
    return pack


def begun(kind: str) -> bytes:
    """How the bytes of every event of a kind begin that is for all backends."""
    head: bytes = msgpack.Packer().pack_array_header(1 + len(_FIELDS))
    return head + parts(SCHEMA, kind, None)


def parts(*values: Any) -> bytes:
    """Values that follow each other in an event, as they are packed there."""
    try:
        pack = idle_packs.pop()
    except IndexError:
        pack = new_pack()
    packed = b"".join(map(pack, values))
    idle_packs.append(pack)
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


def unpack(payload: bytes, id: EventId | None = None) -> Event:
    """The event that was packed, with the id; raises `UndecodableError`, and nothing else, for all other bytes."""
    if len(payload) > MAX_EVENT:
        raise UndecodableError(f"{len(payload)} bytes are more than an event has")
    try:
        values = msgpack.unpackb(payload, timestamp=1, ext_hook=_refuse, unicode_errors=SURROGATES)
        _check(values)
    except Exception as exc:
        raise UndecodableError(f"no event of schema version {SCHEMA}: {guarded(str, exc, 200)}") from exc
    if values[2] is not None:
        values[2] = tuple(values[2])
    if values[16]:
        values[16] = [
            Raised(relation, kind, name, message, [Frame(*frame) for frame in frames], notes, parent)
            for relation, kind, name, message, frames, notes, parent in values[16]
        ]
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
        if type(one) is not list or tuple(map(type, one)) != _RAISED_SHAPE or one[0] not in RELATIONS:
            raise ValueError("an exception that is none")
        if not 0 <= one[6] < max(place, 1):
            raise ValueError("an exception without a place in the chain")
        if one[5] and {*map(type, one[5])} != {str}:
            raise ValueError("notes that are no texts")
        for frame in one[4]:
            if type(frame) not in _SEQUENCES or tuple(map(type, frame)) != _FRAME_SHAPE:
                raise ValueError("a frame that is none")


_SEQUENCES = frozenset({list, tuple, Frame})


def _mended(event: Event) -> Event:
    """A copy that can be packed of an event that a user has put anything into."""
    return Event(
        as_name(event.kind),
        _route(event.route),
        as_seconds(event.time),
        as_integer(event.level),
        as_name(event.level_name),
        as_name(event.logger),
        as_text(event.message),
        as_name(event.path),
        as_integer(event.line),
        as_name(event.function),
        as_integer(event.pid),
        as_name(event.process),
        as_integer(event.tid),
        as_name(event.thread),
        None if event.task is None else as_name(event.task),
        mended_exceptions(event.exceptions),
        None if event.stack is None else as_text(event.stack),
        as_dict(event.extra) if event.extra else {},
        as_dict(event.context) if event.context else {},
        as_dict(event.data) if event.data else {},
        event.id,
    )


def _route(route: object) -> tuple[str, ...] | None:
    if route is None:
        return None
    names = [route] if isinstance(route, str) else route
    if not isinstance(names, Iterable):
        return (as_name(names),)
    return tuple(as_name(one)[:MAX_KEY] for one in itertools.islice(names, MAX_ITEMS))


# Cutting --------------------------------------------------------------------------------------------------------------

_LEFT_OUT = Expression(r"\[\.\.\. (\d+) characters left out \.\.\.\]\Z")
_MARKER_ROOM = 48  # the longest marker at the end of a text
_SHORT = 256  # bytes: shorter texts are not cut while anything else helps
_SHORTEST = 64


def cut(event: Event, max_bytes: int) -> Event:
    """A copy that packs to at most ``max_bytes``, or to as few as an event can have; the id stays.

    The longest texts are cut first. When that does not do, frames go, then extras and context, then all exceptions
    but the first, then the clients' fields, each with a marker.
    """
    try:
        _packed(event)
    except Exception:
        event = _mended(event)
    for shorter in (replaced, _fewer_frames, _without_extras, _one_exception, _without_data):
        event = shorter(event)
        excess = len(_packed(event)) - max_bytes
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
    return replaced(
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
            replaced(
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
    return replaced(event, exceptions=[replaced(one, frames=middle_out(one.frames, 20)) for one in event.exceptions])


def _without_extras(event: Event) -> Event:
    return replaced(event, extra=_left_out(event.extra), context=_left_out(event.context))


def _one_exception(event: Event) -> Event:
    if not event.exceptions:
        return event
    first, *others = event.exceptions
    notes = [f"[... {len(first.notes)} notes left out ...]"] if first.notes else []
    if others:
        notes.append(f"[... {len(others)} exceptions left out ...]")
    return replaced(event, exceptions=[replaced(first, frames=middle_out(first.frames, 5), notes=notes)])


def _without_data(event: Event) -> Event:
    return replaced(event, kind=event.kind[:MAX_KEY], route=_route(event.route), data=_left_out(event.data))


def _left_out(values: dict[str, Any]) -> dict[str, Any]:
    return {"[...]": f"[... {len(values)} items left out ...]"} if values else {}
