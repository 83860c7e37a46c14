"""record → event → bytes and back; the only room that imports msgpack.

On the way an event is a msgpack array: schema version, then the event's fields in the order of `_FIELDS`. Nothing in
it is a msgpack extension, every key is text, and it is never longer than `MAX_EVENT`.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import itertools
import logging
import numbers
import os
import re
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from operator import attrgetter, itemgetter
from types import TracebackType
from typing import Any, NamedTuple

import msgpack

from .errors import UndecodableError

MAX_EVENT = 256 * 1024
"""The most bytes one packed event has; longer text is cut with a marker that says how much."""

SCHEMA = 1
"""The version of the layout that `pack` writes, and the only one that `unpack` reads."""

MAX_DEPTH = 8
"""Containers in containers; what is deeper is replaced by a marker."""

MAX_ITEMS = 200
"""The most items that one container keeps; a marker says how many were left out."""

MAX_NODES = 10_000
"""The most values that one `plain` keeps, at all depths."""

MAX_EXCEPTIONS = 20
MAX_FRAMES = 100
MAX_NOTES = 20

_MAX_TEXT = MAX_EVENT  # characters: a longer text can't fit anyway
_MAX_TEXTS = 4 * MAX_EVENT  # characters of all texts of one `plain` together
_MAX_NAME = 1000  # characters of a logger's, thread's, file's ... name
_MAX_KEY = 256
_MAX_REPR = 10_000


class EventId(NamedTuple):
    """Process token (8 bytes, 16 hex digits) and sequence number; the same at every retry."""

    token: bytes
    seq: int

    @property
    def uuid(self) -> uuid.UUID:
        """The id as a UUID: the token's bytes, then the sequence number, with version and variant bits of a v4."""
        return uuid.UUID(bytes=self.token + self.seq.to_bytes(8, "big"), version=4)

    @property
    def uuid_text(self) -> str:
        """``str(self.uuid)``, without the way over the object: every event that is sent needs it."""
        high, low = self.token.hex(), f"{self.seq & 0x3FFFFFFFFFFFFFFF | 0x8000000000000000:016x}"
        return f"{high[:8]}-{high[8:12]}-4{high[13:]}-{low[:4]}-{low[4:]}"

    def __str__(self) -> str:
        return f"{self.token.hex()}-{self.seq}"


class Frame(NamedTuple):
    """One line of a traceback: file as the interpreter knows it, line, qualified-less function name.

    Where frames were left out there is one with the line 0, no function, and a marker as its file.
    """

    file: str
    line: int
    function: str


@dataclass(slots=True)
class Raised:
    """One exception of a chain, as plain data."""

    relation: str  # "raised" (the first), "cause", "context" or "group"
    type: str  # module.qualname, e.g. "builtins.IndexError"
    name: str  # the bare class name, e.g. "IndexError"
    message: str  # str(exc)
    frames: list[Frame] = field(default_factory=list)  # outermost first
    notes: list[str] = field(default_factory=list)
    parent: int = 0  # place in the event's list of the exception it is the cause, context or member of


@dataclass(slots=True)
class Event:
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


# Text ----------------------------------------------------------------------------------------------------------------

_LEFT_OUT = re.compile(r"\[\.\.\. (\d+) characters left out \.\.\.\]\Z")
_MARKER_ROOM = 48  # the longest marker at the end of a text


def _clean(text: str) -> str:
    """The text with lone surrogates (file names, broken input) as backslash escapes, so that it is UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def _bounded(text: str, most: int) -> str:
    """Clean, and at most ``most`` characters before the marker."""
    if len(text) <= most:
        return _clean(text)
    return f"{_clean(text[:most])}[... {len(text) - most} characters left out ...]"


def _type_name(value: object) -> str:
    try:
        return _bounded(str.__str__(type(value).__name__), _MAX_KEY)
    except Exception:
        return "object"


def _guarded(render: Callable[[Any], str], value: object, most: int = _MAX_REPR) -> str:
    """``render(value)``, or a marker when that raises."""
    try:
        return _bounded(str.__str__(render(value)), most)
    except Exception as exc:
        return f"<unrepresentable {_type_name(value)}: {_type_name(exc)}>"


def _string(value: object, most: int = _MAX_TEXT) -> str:
    """The value as text, whatever it is."""
    if type(value) is str:
        return value if len(value) <= most and value.isascii() else _bounded(value, most)
    return _guarded(str, value, most)


def _name(value: object) -> str:
    """A short text; nothing for None."""
    if type(value) is str and len(value) <= _MAX_NAME and value.isascii():
        return value
    return "" if value is None else _string(value, _MAX_NAME)


def _integer(value: Any) -> int:
    """A 64-bit integer; 0 for what is none."""
    try:
        return min(max(int(value), -(2**63)), 2**63 - 1)
    except Exception:
        return 0


def _seconds(value: Any) -> float:
    """A time that a calendar has; now, for what is none."""
    try:
        seconds = float(value)
    except Exception:
        return time.time()
    return seconds if _FIRST_SECOND <= seconds < _END_OF_TIME else time.time()


_FIRST_SECOND, _END_OF_TIME = -62135596800.0, 253402300800.0  # the years 1 to 9999


# Plain data ----------------------------------------------------------------------------------------------------------

_SCALARS = frozenset({str, int, float, bool, type(None), bytes})
_ATOMS = frozenset({float, bool, type(None)})


def plain(value: object) -> Any:
    """Anything as plain data that can be packed; never raises, and never gives back a container that it was given.

    Text keeps all that UTF-8 can say, integers past 64 bit become decimal text, bytes stay, dates become ISO 8601,
    mappings, dataclasses (without their ``repr=False`` fields) and named tuples become dicts with text keys, other
    collections lists, exceptions "Type: message", and the rest its bounded `repr`. Depth, items, text and the whole
    are bounded; a marker says what was left out.
    """
    return _Walk().value(value)


class _Walk:
    """One walk over a value: what is left of its bounds, and the containers that it is inside of."""

    __slots__ = ("above", "characters", "nodes")

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.characters = _MAX_TEXTS
        self.above: list[int] = []

    def value(self, value: object) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is str:
            return self.text(value)  # type: ignore[arg-type]
        if kind is int:
            return _whole(value)  # type: ignore[arg-type]
        try:
            if kind is dict:
                return self.mapping(value)  # type: ignore[arg-type]
            if kind is list or kind is tuple:
                return self.collection(value)  # type: ignore[arg-type]
            return self.other(value, kind)
        except Exception:
            return self.represented(value)

    def text(self, text: str) -> str:
        most = min(_MAX_TEXT, self.characters)
        self.characters -= min(len(text), most)
        return text if len(text) <= most and text.isascii() else _bounded(text, most)

    def represented(self, value: object) -> str:
        return self.text(_guarded(repr, value))

    def other(self, value: Any, kind: type) -> Any:
        """Subclasses of the plain types, and the types that have a better form than their repr."""
        if issubclass(kind, str):
            return self.text(str.__str__(value))
        if issubclass(kind, int):
            return _whole(int.__index__(value))
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, bytes | bytearray | memoryview):
            return self.octets(value)
        if issubclass(kind, datetime.date | datetime.time):
            return value.isoformat()
        if issubclass(kind, decimal.Decimal | uuid.UUID | datetime.timedelta | numbers.Rational | enum.Enum):
            return _whole(int(value)) if issubclass(kind, numbers.Integral) else self.text(_guarded(str, value))
        if issubclass(kind, numbers.Real):
            return float(value)
        if issubclass(kind, BaseException):
            return self.text(f"{kind.__name__}: {_guarded(str, value, _MAX_TEXT)}")
        if issubclass(kind, type):
            return self.represented(value)
        if issubclass(kind, os.PathLike):
            return self.value(os.fspath(value))
        return self.container(value, kind)

    def octets(self, value: Any) -> bytes:
        view = memoryview(value)
        most = min(_MAX_TEXT, self.characters)
        self.characters -= min(view.nbytes, most)
        if view.nbytes <= most:
            return view.tobytes()
        return view.cast("B")[:most].tobytes() + b"[... %d bytes left out ...]" % (view.nbytes - most)

    def container(self, value: Any, kind: type) -> Any:
        if is_dataclass(kind):
            return self.mapping({one.name: getattr(value, one.name, None) for one in fields(value) if one.repr}, value)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self.mapping(dict(zip(kind._fields, value, strict=False)), value)
        if issubclass(kind, Mapping):
            return self.mapping(value)
        if issubclass(kind, Collection):
            return self.collection(value)
        return self.represented(value)

    def mapping(self, value: Mapping[Any, object], owner: object = None) -> Any:
        """As a dict; ``owner`` is the object whose parts the mapping holds, when it is not the mapping itself."""
        owner = value if owner is None else owner
        size = len(value)
        if closed := self.closed(owner, size):
            return closed
        result: dict[str, Any] = {}
        self.above.append(id(owner))
        try:
            for key, item in self.first(value.items(), size):
                name = _key(key)
                if name in result:  # 1 and "1"
                    name = f"{name} <{_type_name(key)}>"
                result[name] = self.value(item)
        finally:
            self.above.pop()
        if size > len(result):
            result["[...]"] = f"[... {size - len(result)} items left out ...]"
        return result

    def collection(self, value: Collection[object]) -> Any:
        size = len(value)
        if closed := self.closed(value, size):
            return closed
        self.above.append(id(value))
        try:
            result = [self.value(item) for item in self.first(value, size)]
        finally:
            self.above.pop()
        if size > len(result):
            result.append(f"[... {size - len(result)} items left out ...]")
        return result

    def first(self, items: Iterable[Any], size: int) -> list[Any]:
        """As many of the items as may be kept, taken at once: another thread may be changing their container."""
        kept = list(itertools.islice(items, min(size, MAX_ITEMS, max(0, self.nodes))))
        self.nodes -= len(kept)
        return kept

    def closed(self, value: object, size: int) -> str | None:
        """The marker for a container that can't be entered."""
        if id(value) in self.above:
            return f"<cyclic {_type_name(value)}>"
        if len(self.above) >= MAX_DEPTH:
            return f"<{_type_name(value)} of {size} items, too deep>"
        return None


def _whole(value: int) -> int | str:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return str(value)
    except ValueError:  # past sys.get_int_max_str_digits()
        return f"<int of {value.bit_length()} bits>"


def _key(key: object) -> str:
    if type(key) is str and len(key) <= _MAX_KEY and key.isascii():
        return key
    if isinstance(key, bytes):
        return _bounded(key.decode(errors="backslashreplace"), _MAX_KEY)
    return _string(_Walk().value(key), _MAX_KEY)


def _plain_fields(values: Mapping[str, object]) -> dict[str, Any]:
    """The mapping as plain data; quick where everything in it is a short text or a number."""
    if len(values) > MAX_ITEMS:
        return _whole_mapping(values)
    result: dict[str, Any] = {}
    for key, value in values.items():
        if type(key) is not str or not key.isascii() or len(key) > _MAX_KEY or not _is_short(value):
            return _whole_mapping(values)
        result[key] = value
    return result


def _is_short(value: Any) -> bool:
    """A value that needs no second look."""
    kind = type(value)
    if kind is str:
        return bool(len(value) <= _MAX_NAME and value.isascii())
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    return kind in _ATOMS


def _whole_mapping(values: Mapping[str, object]) -> dict[str, Any]:
    result = _Walk().value(values)
    return result if type(result) is dict else {"[...]": result}


def _is_plain(value: object) -> bool:
    """Nothing in it is anything but plain data, no deeper and no larger than `plain` makes it (roughly)."""
    depth, visited = 0, 0
    level: list[Any] = [value]
    while level:
        if depth > MAX_DEPTH or visited > 4 * MAX_NODES:
            return False
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        return False
                items: Iterable[Any] = container.values()
            elif type(container) is list:
                items = container
            else:
                return False
            visited += len(container)
            if visited > 4 * MAX_NODES:
                return False
            for item in items:
                if type(item) not in _SCALARS:
                    below.append(item)
        level = below
        depth += 1
    return True


# Exceptions ----------------------------------------------------------------------------------------------------------

_RELATIONS = frozenset({"raised", "cause", "context", "group"})


def raised(exc: object) -> list[Raised]:
    """The exception, then its causes, contexts and members of groups, nearest first; never raises.

    Takes an exception, an ``exc_info`` triple (with or without traceback), True for the exception that is being
    handled, and None or False for none. At most 20 exceptions of 100 frames; markers say what was left out.
    """
    try:
        return _raised(sys.exc_info() if exc is True else exc)
    except Exception as failure:  # an exception with attributes that raise
        return [Raised("raised", *_names(type(exc)), f"<unreadable exception: {_type_name(failure)}>")]


def _raised(exc: object) -> list[Raised]:
    if isinstance(exc, BaseException):
        return _walked(exc, None)
    if not isinstance(exc, tuple | list) or not exc:
        return []
    value = exc[1] if len(exc) > 1 else None
    traceback = exc[2] if len(exc) > 2 and isinstance(exc[2], TracebackType) else None
    if isinstance(value, BaseException):
        return _walked(value, traceback)
    if not isinstance(exc[0], type):
        return []
    message = "" if value is None else _string(value)
    return [Raised("raised", *_names(exc[0]), message, _frames(traceback))]


def _walked(first: BaseException, traceback: TracebackType | None) -> list[Raised]:
    found: list[Raised] = []
    seen = {id(first)}
    waiting = collections.deque([("raised", first, 0)])
    while waiting and len(found) < MAX_EXCEPTIONS:
        relation, exc, parent = waiting.popleft()
        tb = traceback if exc is first and traceback is not None else exc.__traceback__
        names = _names(type(exc))
        found.append(Raised(relation, *names, _guarded(str, exc, _MAX_TEXT), _frames(tb), _notes(exc), parent))
        for kin, other in _related(exc):
            if id(other) not in seen:
                seen.add(id(other))
                waiting.append((kin, other, len(found) - 1))
    if waiting:
        found[0].notes.append(f"[... {len(waiting)} or more exceptions left out ...]")
    return found


def _related(exc: BaseException) -> Iterator[tuple[str, BaseException]]:
    if exc.__cause__ is not None:
        yield "cause", exc.__cause__
    elif exc.__context__ is not None and not exc.__suppress_context__:
        yield "context", exc.__context__
    try:
        members = getattr(exc, "exceptions", ())  # ExceptionGroup, and its backport on Python 3.10
        kept = list(itertools.islice(members, MAX_ITEMS)) if isinstance(members, tuple | list) else []
    except Exception:
        return
    for member in kept:
        if isinstance(member, BaseException):
            yield "group", member


def _names(kind: type) -> tuple[str, str]:
    """module.qualname and bare name of an exception's class."""
    try:
        return _name(f"{kind.__module__}.{kind.__qualname__}"), _name(kind.__name__)
    except Exception:
        return "builtins.Exception", "Exception"


def _notes(exc: BaseException) -> list[str]:
    try:
        notes = getattr(exc, "__notes__", None)
        if not notes:
            return []
        if not isinstance(notes, tuple | list):
            return [_guarded(repr, notes)]
        kept = [_string(note) for note in itertools.islice(notes, MAX_NOTES)]
    except Exception:
        return []
    if len(notes) > MAX_NOTES:
        kept.append(f"[... {len(notes) - MAX_NOTES} notes left out ...]")
    return kept


def _frames(traceback: TracebackType | None) -> list[Frame]:
    head: list[Frame] = []
    tail: collections.deque[TracebackType] = collections.deque(maxlen=MAX_FRAMES - MAX_FRAMES // 2)
    past = 0
    while traceback is not None:
        if len(head) < MAX_FRAMES // 2:
            head.append(_frame(traceback))
        else:
            tail.append(traceback)
            past += 1
        traceback = traceback.tb_next
    if past > len(tail):
        tail.popleft()  # its place is the marker's
        head.append(Frame(f"[... {past - len(tail)} frames left out ...]", 0, ""))
    return head + [_frame(one) for one in tail]


def _frame(traceback: TracebackType) -> Frame:
    code = traceback.tb_frame.f_code
    return Frame(_name(code.co_filename), traceback.tb_lineno or 0, _name(code.co_name))


_CHAINED = {
    "cause": "\nThe above exception was the direct cause of the following exception:\n\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n\n",
}
_HEADER = "Traceback (most recent call last):\n"
_FRAME_LINE = re.compile(r'^  File "([^"\n]*)", line (\d{1,9}), in (\S[^\n]*)$', re.MULTILINE)
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.<>]*)(?:: (.*))?\Z", re.MULTILINE | re.DOTALL)


def _from_text(text: str) -> list[Raised]:
    """What can be read out of a formatted traceback: a record that was pickled has nothing else."""
    parts = re.split("({}|{})".format(*map(re.escape, _CHAINED.values())), text)
    blocks = [_block(part.strip("\n")) for part in parts[::2]][::-1][:MAX_EXCEPTIONS]
    if not all(blocks):
        return [Raised("raised", "builtins.Exception", "Exception", text)]
    found = [block for block in blocks if block]
    for place, joint in enumerate(parts[-2::-2][: len(found) - 1], start=1):
        found[place].relation = "cause" if joint == _CHAINED["cause"] else "context"
        found[place].parent = place - 1
    return found


def _block(text: str) -> Raised | None:
    lines = list(_FRAME_LINE.finditer(text))
    last = _LAST_LINE.search(text, lines[-1].end() if lines else 0)
    if not text.startswith(_HEADER) or last is None:
        return None
    frames = [Frame(_name(one[1]), int(one[2]), _name(one[3])) for one in lines]
    qualified = last[1] if "." in last[1] else f"builtins.{last[1]}"
    name = last[1].rpartition(".")[2]
    return Raised("raised", _name(qualified), _name(name), last[2] or "", _middle_out(frames, MAX_FRAMES))


_FRAMES_LEFT_OUT = re.compile(r"\[\.\.\. (\d{1,9}) frames left out \.\.\.\]")


def _middle_out(frames: list[Frame], most: int) -> list[Frame]:
    """At most ``most`` frames, one of them the marker."""
    if len(frames) <= most:
        return list(frames)
    head = most // 2
    tail = most - head - 1
    middle = frames[head : len(frames) - tail]
    marked = (None if one.line else _FRAMES_LEFT_OUT.fullmatch(one.file) for one in middle)
    count = sum(int(match[1]) if match else 1 for match in marked)
    return [*frames[:head], Frame(f"[... {count} frames left out ...]", 0, ""), *frames[len(frames) - tail :]]


# Record → event ------------------------------------------------------------------------------------------------------

_STANDARD = frozenset({
    "name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text",
    "stack_info", "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName", "processName",
    "process", "message", "asctime", "taskName",
})  # fmt: skip


def from_record(record: logging.LogRecord, *, context: Callable[[], Mapping[str, object]] | None = None) -> Event:
    """The record as an event of kind "log"; never raises, and reads no file.

    Everything that was added to the record becomes ``extra``, but for names that begin with ``_shipper``. A marker
    stands for what can't be formatted, and for a ``context`` that raises.
    """
    try:
        return _event(record, context)
    except Exception as exc:  # at the edge of the recursion limit, or a record that is none
        return Event(time=time.time(), level=logging.ERROR, message=f"<unreadable record: {_type_name(exc)}>")


def _event(record: logging.LogRecord, context: Callable[[], Mapping[str, object]] | None) -> Event:
    values = record.__dict__
    find = values.get
    extra = {key: value for key, value in values.items() if key not in _STANDARD}
    exc_info = find("exc_info")
    exceptions = [] if exc_info is None else raised(exc_info)
    if not exceptions and isinstance(text := find("exc_text"), str) and text:
        exceptions = _from_text(_string(text))
    stack = find("stack_info")
    task = values["taskName"] if "taskName" in values else _task()
    time, level, level_name, logger, path, line, function, pid, process, tid, thread = _origin(values)
    return Event(
        "log",
        None,
        time,
        level,
        level_name,
        logger,
        _message(record),
        path,
        line,
        function,
        pid,
        process,
        tid,
        thread,
        None if task is None else _name(task),
        exceptions,
        None if stack is None else _string(stack),
        _extra(extra) if extra else {},
        _context(context) if context is not None else {},
        {},
    )


_ORIGIN = (
    "created", "levelno", "levelname", "name", "pathname", "lineno", "funcName", "process", "processName", "thread",
    "threadName",
)  # fmt: skip
_USUAL = (float, int, str, str, str, int, str, int, str, int, str)
_origin_of = itemgetter(*_ORIGIN)


def _origin(values: dict[str, Any]) -> Iterable[Any]:
    """When, how grave and from where, in the order of `_ORIGIN`; in one go where they are what logging makes them."""
    try:
        found: tuple[Any, ...] = _origin_of(values)
    except KeyError:
        found = ()
    if tuple(map(type, found)) == _USUAL and _is_usual(*found):
        return found
    mended = {float: _seconds, int: _integer, str: _name}
    return [mended[kind](values.get(name)) for name, kind in zip(_ORIGIN, _USUAL, strict=True)]


def _is_usual(
    time: float,
    level: int,
    level_name: str,
    logger: str,
    path: str,
    line: int,
    function: str,
    pid: int,
    process: str,
    tid: int,
    thread: str,
) -> bool:
    names = f"{level_name}{logger}{path}{function}{process}{thread}"
    if len(names) > _MAX_NAME or not names.isascii():
        return False
    numbers = (level, line, pid, tid)
    return _FIRST_SECOND <= time < _END_OF_TIME and min(numbers) >= 0 and max(numbers) < 2**63


def _message(record: logging.LogRecord) -> str:
    try:
        return _string(record.getMessage())
    except Exception:
        message = _string(getattr(record, "msg", ""))
    args = getattr(record, "args", None)
    return f"{message} [arguments that do not fit: {_guarded(repr, args)}]" if args else message


def _extra(extra: dict[str, object]) -> dict[str, Any]:
    for key in list(extra):
        if isinstance(key, str) and key.startswith("_shipper"):
            del extra[key]
    return _plain_fields(extra)


def _context(context: Callable[[], Mapping[str, object]]) -> dict[str, Any]:
    try:
        given = context()
        return _plain_fields(given) if given else {}
    except Exception as exc:
        return {"[context]": f"<no context: {_type_name(exc)}: {_guarded(str, exc, _MAX_NAME)}>"}


def _task() -> object:
    """The name of the running asyncio task, before Python 3.12 put it into the record."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        if asyncio._get_running_loop() is None:
            return None
        task = asyncio.current_task()
        return None if task is None else task.get_name()
    except Exception:  # asyncio is just being imported, or a loop that knows no tasks
        return None


# Event → bytes → event -----------------------------------------------------------------------------------------------

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
        mended = _mended(event)
        for name in _FIELDS:
            setattr(event, name, getattr(mended, name))


def _packed(event: Event) -> bytes:
    """Raises when anything in the event is not what `unpack` would take."""
    values = _values(event)
    _check(values)
    # One that nobody else has: another thread, or a finalizer that logs in the middle of this, takes the next.
    try:
        packer = _idle_packers.pop()
    except IndexError:
        packer = msgpack.Packer()
    payload: bytes = packer.pack(values)
    _idle_packers.append(packer)
    return payload


_idle_packers: list[Any] = []  # making one costs more than packing an event


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
        values = msgpack.unpackb(payload, timestamp=1, ext_hook=_refuse)
        _check(values)
    except Exception as exc:
        raise UndecodableError(f"no event of schema version {SCHEMA}: {_guarded(str, exc, 200)}") from exc
    if values[2] is not None:
        values[2] = tuple(values[2])
    if values[16]:
        values[16] = [
            Raised(relation, kind, name, message, [Frame(*frame) for frame in frames], notes, parent)
            for relation, kind, name, message, frames, notes, parent in values[16]
        ]
    event = Event(*values[1:])
    event.id = id
    return event


def _refuse(code: int, data: bytes) -> object:
    raise ValueError(f"extension type {code}")


def _check(values: list[Any]) -> None:
    """Raise ValueError unless the values have the types, the order and the bounds of an event."""
    if type(values) is not list or not values or values[0] != SCHEMA:
        raise ValueError(f"schema version {values[0] if type(values) is list and values else None}")
    if tuple(map(type, values)) not in _SHAPES:
        raise ValueError("fields of the wrong type")
    if not _FIRST_SECOND <= values[3] < _END_OF_TIME:
        raise ValueError("a time that no calendar has")
    if values[2] and {*map(type, values[2])} != {str}:
        raise ValueError("a route that is no list of names")
    if values[16]:
        _check_exceptions(values[16])
    for fields_ in values[18:]:
        if fields_ and not _is_plain(fields_):
            raise ValueError("a value that is no plain data")


def _check_exceptions(exceptions: list[Any]) -> None:
    if len(exceptions) > MAX_EXCEPTIONS:
        raise ValueError("too many exceptions")
    for place, one in enumerate(exceptions):
        if type(one) is not list or tuple(map(type, one)) != _RAISED_SHAPE or one[0] not in _RELATIONS:
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
        _name(event.kind),
        _route(event.route),
        _seconds(event.time),
        _integer(event.level),
        _name(event.level_name),
        _name(event.logger),
        _string(event.message),
        _name(event.path),
        _integer(event.line),
        _name(event.function),
        _integer(event.pid),
        _name(event.process),
        _integer(event.tid),
        _name(event.thread),
        None if event.task is None else _name(event.task),
        _mended_exceptions(event.exceptions),
        None if event.stack is None else _string(event.stack),
        _whole_mapping(event.extra) if event.extra else {},
        _whole_mapping(event.context) if event.context else {},
        _whole_mapping(event.data) if event.data else {},
        event.id,
    )


def _route(route: object) -> tuple[str, ...] | None:
    if route is None:
        return None
    names = [route] if isinstance(route, str) else route
    if not isinstance(names, Iterable):
        return (_name(names),)
    return tuple(_name(one)[:_MAX_KEY] for one in itertools.islice(names, MAX_ITEMS))


def _mended_exceptions(exceptions: object) -> list[Raised]:
    found: list[Raised] = []
    for one in itertools.islice(exceptions, MAX_EXCEPTIONS) if isinstance(exceptions, Iterable) else []:
        if isinstance(one, BaseException):
            found.extend(_walked(one, None)[:1])
        elif isinstance(one, Raised):
            found.append(_mended_raised(one))
    for place, one in enumerate(found):
        one.parent = min(max(0, one.parent), max(0, place - 1))
    return found


def _mended_raised(one: Raised) -> Raised:
    frames = [
        Frame(_name(frame[0]), _integer(frame[1]), _name(frame[2]))
        for frame in (one.frames if isinstance(one.frames, list) else [])
        if isinstance(frame, tuple | list) and len(frame) == 3
    ]
    notes = [_string(note) for note in one.notes] if isinstance(one.notes, list | tuple) else []
    relation = one.relation if isinstance(one.relation, str) and one.relation in _RELATIONS else "context"
    names = _name(one.type), _name(one.name)
    return Raised(relation, *names, _string(one.message), _middle_out(frames, MAX_FRAMES), notes, _integer(one.parent))


# Cutting -------------------------------------------------------------------------------------------------------------

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
    for shorter in (replace, _fewer_frames, _without_extras, _one_exception, _without_data):
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
        size = len(text if type(text) is bytes else text.encode())
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
    encoded = text.encode()
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
    return replace(event, exceptions=[replace(one, frames=_middle_out(one.frames, 20)) for one in event.exceptions])


def _without_extras(event: Event) -> Event:
    return replace(event, extra=_left_out(event.extra), context=_left_out(event.context))


def _one_exception(event: Event) -> Event:
    if not event.exceptions:
        return event
    first, *others = event.exceptions
    notes = [f"[... {len(first.notes)} notes left out ...]"] if first.notes else []
    if others:
        notes.append(f"[... {len(others)} exceptions left out ...]")
    return replace(event, exceptions=[replace(first, frames=_middle_out(first.frames, 5), notes=notes)])


def _without_data(event: Event) -> Event:
    return replace(event, kind=event.kind[:_MAX_KEY], route=_route(event.route), data=_left_out(event.data))


def _left_out(values: dict[str, Any]) -> dict[str, Any]:
    return {"[...]": f"[... {len(values)} items left out ...]"} if values else {}


# Event → traceback ---------------------------------------------------------------------------------------------------

_REPEATS = 3  # so many equal lines does Python print


def traceback_text(event: Event, *, source: Callable[[str, int], str] | None = None) -> str:
    """The exceptions as Python prints them, causes first, groups as a tree; "" when there are none.

    ``source(file, line)`` gives a line of the program, or "" when it has none.
    """
    if not event.exceptions:
        return ""
    return "".join(_Printer(event.exceptions, source).chain(0, 0))


class _Printer:
    """Follows `traceback.TracebackException.format` of Python 3.11."""

    def __init__(self, exceptions: list[Raised], source: Callable[[str, int], str] | None) -> None:
        self.exceptions = exceptions
        self.source = source
        self.unclosed = False

    def chain(self, place: int, depth: int) -> Iterator[str]:
        links = [place]
        while (link := self.related(links[-1], "cause", "context")) and link[0] > links[-1]:
            links.append(link[0])
        for one in reversed(links):
            yield from self.one(one, depth)
            if one != place:
                yield self.margin(_CHAINED[self.exceptions[one].relation], depth)

    def related(self, place: int, *relations: str) -> list[int]:
        return [
            other
            for other, one in enumerate(self.exceptions)
            if other > place and one.parent == place and one.relation in relations
        ]

    def one(self, place: int, depth: int) -> Iterator[str]:
        exc = self.exceptions[place]
        members = self.related(place, "group")
        if not members:
            yield self.margin((_HEADER if exc.frames else "") + self.frames(exc) + _ending(exc), depth)
            return
        inner = max(depth, 1)
        if exc.frames:
            yield self.margin(f"Exception Group {_HEADER}", inner, "|" if depth else "+")
        yield self.margin(self.frames(exc) + _ending(exc), inner)
        yield from self.members(members, inner)

    def members(self, members: list[int], depth: int) -> Iterator[str]:
        self.unclosed = False
        for number, member in enumerate(members, start=1):
            self.unclosed = number == len(members)
            yield f"{'  ' * depth}{'+-' if number == 1 else '  '}+---------------- {number} ----------------\n"
            yield from self.chain(member, depth + 1)
        if self.unclosed:
            yield f"{'  ' * (depth + 1)}+------------------------------------\n"
            self.unclosed = False

    @staticmethod
    def margin(text: str, depth: int, mark: str = "|") -> str:
        return textwrap.indent(text, f"{'  ' * depth}{mark} ", lambda line: True) if depth else text

    def frames(self, exc: Raised) -> str:
        lines: list[str] = []
        for frame, equal in itertools.groupby(exc.frames):
            count = len(list(equal))
            lines += [self.frame(frame)] * min(count, _REPEATS)
            if count > _REPEATS:
                more = count - _REPEATS
                lines.append(f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n")
        return "".join(lines)

    def frame(self, frame: Frame) -> str:
        if not frame.line and not frame.function:
            return f"  {frame.file}\n"
        text = f'  File "{frame.file}", line {frame.line}, in {frame.function}\n'
        line = self.source(frame.file, frame.line).strip() if self.source else ""
        return f"{text}    {line}\n" if line else text


def _ending(exc: Raised) -> str:
    kind = re.sub(r"\A(?:builtins|__main__)\.", "", exc.type)
    lines = [f"{kind}: {exc.message}" if exc.message else kind, *exc.notes]
    return "".join(f"{line}\n" for line in lines)
