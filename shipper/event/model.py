"""What travels: one event, and its id.

The fields of `Event` are the wire schema: `codec` packs them in this order.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .exceptions import ExceptionInfo, sanitize_exceptions
from .sanitize import MAX_ITEMS, sanitize_mapping
from .scalars import MAX_KEY, MAX_TEXT, as_integer, as_name, as_seconds, as_text

if TYPE_CHECKING:
    import uuid

MAX_EVENT = MAX_TEXT
"""The most bytes of one packed event, 256 KiB; a longer one is cut, with markers that say what is missing."""


TRACE_ID, SPAN_ID, TRACE_FLAGS = "trace_id", "span_id", "trace_flags"
"""What an event's context calls the span in which it was logged: hexadecimal ids of W3C's trace context, a number."""


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

    @classmethod
    def from_text(cls, text: object) -> EventId | None:
        """The id that `str` made this text of; None for anything else."""
        token, _, seq = text.partition("-") if isinstance(text, str) else ("", "", "")
        is_id = len(token) == 16 and seq.isascii() and seq.isdigit() and len(seq) <= 20 and int(seq) < 1 << 64
        try:
            return cls(bytes.fromhex(token), int(seq)) if is_id else None
        except ValueError:
            return None


@functools.lru_cache(maxsize=64)
def _uuid_start(token: bytes, high: int) -> str:
    digits = token.hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:]}-{high & 0x3FFF | 0x8000:04x}-"


@dataclass(frozen=True, slots=True)
class Origin:
    """The app and the machine that logged an event which another machine delivers.

    ``load``: CPU and memory of that machine in percent, at about that time; origins that differ in it are equal.
    """

    app: str
    host: str
    address: str
    cwd: str
    load: tuple[float, float] | None = field(default=None, compare=False)


@dataclass(slots=True)
class Event:
    """What travels. Everything in it is plain data: str, int, float, bool, None, bytes, list, dict with str keys.

    ``kind``: "log"; "trakerr" or "jkool" for what a client has made. ``route``: names of the backends it is for, a
    tuple, or None for all. ``time``: seconds since the epoch, a float. ``level`` (int), ``level_name``, ``logger``,
    ``message`` (with its arguments). ``path``, ``line`` (int), ``function``: where it was logged. ``pid``, ``process``,
    ``tid``, ``thread``: numbers and names. ``task``: asyncio's task name, or None. ``exceptions``: a list of
    `ExceptionInfo`, the exception first, then causes, contexts, members. ``stack``: ``stack_info``, or None. Dicts:
    ``extra``, what was added to the record; ``context``, bound fields, the current span, and what the ``context=``
    callable gave; ``data``, fields for Trakerr or jKool. ``id``: an `EventId`, None until the event is taken out of a
    queue or journal. ``origin``: an `Origin` when another app or machine logged it, or None. Fields without a type here
    are str.
    """

    kind: str = "log"
    route: tuple[str, ...] | None = None
    time: float = 0.0
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
    task: str | None = None
    exceptions: list[ExceptionInfo] = field(default_factory=list)
    stack: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)  # by their names on the wire
    id: EventId | None = None
    origin: Origin | None = None  # set by who read it


def sanitized(event: Event) -> Event:
    """A copy of the event with plain data only, whatever a user has put into its fields."""
    return Event(
        as_name(event.kind),
        route_names(event.route),
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
        sanitize_exceptions(event.exceptions),
        None if event.stack is None else as_text(event.stack),
        sanitize_mapping(event.extra) if event.extra else {},
        sanitize_mapping(event.context) if event.context else {},
        sanitize_mapping(event.data) if event.data else {},
        event.id,
        event.origin,
    )


def route_names(route: object) -> tuple[str, ...] | None:
    """Any value as a route: a tuple of backend names, or None for all backends."""
    if route is None:
        return None
    names = [route] if isinstance(route, str) else route
    if not isinstance(names, Iterable):
        return (as_name(names),)
    return tuple(as_name(one)[:MAX_KEY] for one in itertools.islice(names, MAX_ITEMS))
