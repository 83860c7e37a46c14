"""Exceptions ↔ traceback text, as Python prints it."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from .._support.lazy_pattern import LazyPattern
from .exceptions import MAX_EXCEPTIONS, MAX_FRAMES, ExceptionInfo, Frame, elide_middle
from .scalars import as_name

_CHAINED = {
    "cause": "\nThe above exception was the direct cause of the following exception:\n\n",
    "context": "\nDuring handling of the above exception, another exception occurred:\n\n",
}
_HEADER = "Traceback (most recent call last):\n"


# Exceptions → text ----------------------------------------------------------------------------------------------------

_REPEATS = 3  # equal lines that Python prints before it counts the others


def traceback_text(exceptions: Sequence[ExceptionInfo], *, source: Callable[[str, int], str] | None = None) -> str:
    """An event's exceptions as Python prints them, causes first, groups as a tree; "" when there are none.

    ``source(file, line)`` returns that line of source code, or "" when it is not known.
    """
    if not exceptions:
        return ""
    return "".join(_Printer(exceptions, source).chain(0, 0))


class _Printer:
    """Formats like `traceback.TracebackException.format` of Python 3.11."""

    def __init__(self, exceptions: Sequence[ExceptionInfo], source: Callable[[str, int], str] | None) -> None:
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

    def frames(self, exc: ExceptionInfo) -> str:
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


def _ending(exc: ExceptionInfo) -> str:
    kind = re.sub(r"\A(?:builtins|__main__)\.", "", exc.type)
    lines = [f"{kind}: {exc.message}" if exc.message else kind, *exc.notes]
    return "".join(f"{line}\n" for line in lines)


# Text → exceptions ----------------------------------------------------------------------------------------------------

_FRAME_LINE = LazyPattern(r'^  File "([^"\n]*)", line (\d{1,9}), in (\S[^\n]*)$', re.MULTILINE)
_LAST_LINE = LazyPattern(r"^([A-Za-z_][\w.<>]*)(?:: (.*))?\Z", re.MULTILINE | re.DOTALL)


def from_text(text: str) -> list[ExceptionInfo]:
    """Parse exceptions from a formatted traceback, which is all that a pickled record has of them.

    A text of another form becomes the message of one exception.
    """
    parts = re.split("({}|{})".format(*map(re.escape, _CHAINED.values())), text)
    blocks = [_block(part.strip("\n")) for part in parts[::2]][::-1][:MAX_EXCEPTIONS]
    if not all(blocks):
        return [ExceptionInfo("raised", "builtins.Exception", "Exception", text)]
    found = [block for block in blocks if block]
    for place, joint in enumerate(parts[-2::-2][: len(found) - 1], start=1):
        found[place].relation = "cause" if joint == _CHAINED["cause"] else "context"
        found[place].parent = place - 1
    return found


def _block(text: str) -> ExceptionInfo | None:
    lines = list(_FRAME_LINE.finditer(text))
    last = _LAST_LINE.search(text, lines[-1].end() if lines else 0)
    if not text.startswith(_HEADER) or last is None:
        return None
    frames = [Frame(as_name(one[1]), int(one[2]), as_name(one[3])) for one in lines]
    qualified = last[1] if "." in last[1] else f"builtins.{last[1]}"
    name = last[1].rpartition(".")[2]
    return ExceptionInfo("raised", as_name(qualified), as_name(name), last[2] or "", elide_middle(frames, MAX_FRAMES))
