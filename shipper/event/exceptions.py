"""Exceptions → plain data: the exception, its causes, contexts and members of groups, with their frames and notes."""

from __future__ import annotations

import collections
import itertools
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

from .._support.lazy_pattern import LazyPattern
from .sanitize import MAX_ITEMS
from .scalars import MAX_TEXT, as_integer, as_name, as_text, safe_repr, safe_str, type_name

MAX_EXCEPTIONS = 20
MAX_FRAMES = 100
MAX_NOTES = 20

RELATIONS = frozenset({"raised", "cause", "context", "group"})


class Frame(NamedTuple):
    """One line of a traceback: file name as in the code object, line number, and name of the function.

    The marker for frames that were left out is a frame with line 0, no function, and the marker as its file.
    """

    file: str
    line: int
    function: str


@dataclass(slots=True)
class ExceptionInfo:
    """One exception of a chain, as plain data."""

    relation: str  # "raised" (the first), "cause", "context" or "group"
    type: str  # module.qualname, e.g. "builtins.IndexError"
    name: str  # the bare class name, e.g. "IndexError"
    message: str  # str(exc)
    frames: list[Frame] = field(default_factory=list)  # outermost first
    notes: list[str] = field(default_factory=list)
    parent: int = 0  # index, in the event's list, of the exception whose cause, context or member this is

    @property
    def message_and_notes(self) -> str:
        """The message, then a line for each note, as at the end of a traceback."""
        return "\n".join([self.message, *self.notes]) if self.notes else self.message


def capture_exceptions(exc: object) -> list[ExceptionInfo]:
    """The exception, then its causes, contexts and members of groups, nearest first; never raises.

    Takes an exception, an ``exc_info`` triple (with or without traceback), True for the exception that is being
    handled, and None or False for none. At most 20 exceptions of 100 frames; markers say what was left out.
    """
    try:
        return _raised(sys.exc_info() if exc is True else exc)
    except Exception as failure:  # an attribute of the exception raises
        return [ExceptionInfo("raised", *_names(type(exc)), f"<unreadable exception: {type_name(failure)}>")]


def _raised(exc: object) -> list[ExceptionInfo]:
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
    message = "" if value is None else as_text(value)
    return [ExceptionInfo("raised", *_names(exc[0]), message, _frames(traceback))]


def _walked(first: BaseException, traceback: TracebackType | None) -> list[ExceptionInfo]:
    found: list[ExceptionInfo] = []
    seen = {id(first)}
    waiting = collections.deque([("raised", first, 0)])
    while waiting and len(found) < MAX_EXCEPTIONS:
        relation, exc, parent = waiting.popleft()
        tb = traceback if exc is first and traceback is not None else exc.__traceback__
        names = _names(type(exc))
        found.append(ExceptionInfo(relation, *names, safe_str(exc, MAX_TEXT), _frames(tb), _notes(exc), parent))
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
        return as_name(f"{kind.__module__}.{kind.__qualname__}"), as_name(kind.__name__)
    except Exception:
        return "builtins.Exception", "Exception"


def _notes(exc: BaseException) -> list[str]:
    try:
        notes = getattr(exc, "__notes__", None)
        if not notes:
            return []
        if not isinstance(notes, tuple | list):
            return [safe_repr(notes)]
        kept = [as_text(note) for note in itertools.islice(notes, MAX_NOTES)]
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
        tail.popleft()  # the marker takes its place
        head.append(Frame(f"[... {past - len(tail)} frames left out ...]", 0, ""))
    return head + [_frame(one) for one in tail]


def _frame(traceback: TracebackType) -> Frame:
    code = traceback.tb_frame.f_code
    return Frame(as_name(code.co_filename), traceback.tb_lineno or 0, as_name(code.co_name))


_FRAMES_LEFT_OUT = LazyPattern(r"\[\.\.\. (\d{1,9}) frames left out \.\.\.\]")


def elide_middle(frames: list[Frame], most: int) -> list[Frame]:
    """At most ``most`` frames, with a marker in place of those in the middle."""
    if len(frames) <= most:
        return list(frames)
    head = most // 2
    tail = most - head - 1
    middle = frames[head : len(frames) - tail]
    marked = (None if one.line else _FRAMES_LEFT_OUT.fullmatch(one.file) for one in middle)
    count = sum(int(match[1]) if match else 1 for match in marked)
    return [*frames[:head], Frame(f"[... {count} frames left out ...]", 0, ""), *frames[len(frames) - tail :]]


def sanitize_exceptions(exceptions: object) -> list[ExceptionInfo]:
    """Return exceptions that a user may have changed, in the form that `capture_exceptions` returns."""
    found: list[ExceptionInfo] = []
    for one in itertools.islice(exceptions, MAX_EXCEPTIONS) if isinstance(exceptions, Iterable) else []:
        if isinstance(one, BaseException):
            found.extend(_walked(one, None)[:1])
        elif isinstance(one, ExceptionInfo):
            found.append(_sanitized_info(one))
    for place, one in enumerate(found):
        one.parent = min(max(0, one.parent), max(0, place - 1))
    return found


def _sanitized_info(one: ExceptionInfo) -> ExceptionInfo:
    frames = [
        Frame(as_name(frame[0]), as_integer(frame[1]), as_name(frame[2]))
        for frame in (one.frames if isinstance(one.frames, list) else [])
        if isinstance(frame, tuple | list) and len(frame) == 3
    ]
    notes = [as_text(note) for note in one.notes] if isinstance(one.notes, list | tuple) else []
    relation = one.relation if isinstance(one.relation, str) and one.relation in RELATIONS else "context"
    names = as_name(one.type), as_name(one.name)
    kept = elide_middle(frames, MAX_FRAMES)
    return ExceptionInfo(relation, *names, as_text(one.message), kept, notes, as_integer(one.parent))
