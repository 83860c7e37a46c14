"""How commands print: tables of text, colours where the terminal wants them, and numbers for people."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


def is_coloured(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stdout is a terminal that shows colours, and `NO_COLOR` (https://no-color.org) is not set."""
    return sys.stdout.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def coloured(text: str, colour: str, *, wanted: bool) -> str:
    """The text in a colour (red, green, yellow, bold, dim) when that is ``wanted``."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wanted and colour else text


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> Iterator[str]:
    """The lines of a table: the first ``left`` columns are aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "   ".join(cells).rstrip()


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, thing: str, things: str = "") -> str:
    """A number with its noun: ``1 event``, ``1,200 events``."""
    return f"{count(number)} {thing if number == 1 else things or thing + 's'}"


def were(number: int, thing: str) -> str:
    """A number with its noun and verb: ``1 event was``, ``2 events were``."""
    return f"{plural(number, thing)} {'was' if number == 1 else 'were'}"


def wait(number: int, thing: str) -> str:
    """A number with its noun and verb: ``1 event waits``, ``2 events wait``."""
    return f"{plural(number, thing)} {'waits' if number == 1 else 'wait'}"


def duration(seconds: float) -> str:
    """A duration as text: ``0.4 s``, ``12 s``, ``3 min``, ``5.1 h``, ``2.3 d``."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def moment(when: float, now: float) -> str:
    """A time as text: ``14:02:11 (3 min ago)``; with the date when it is not in the last 24 hours."""
    pattern = "%H:%M:%S" if 0 <= now - when < 86_400 else "%Y-%m-%d %H:%M:%S"
    return f"{time.strftime(pattern, time.localtime(when))} ({duration(now - when)} ago)"


def size(bytes_: int) -> str:
    """A number of bytes as text: ``17 B``, ``1.2 KiB``, ``16.0 MiB``, ``2.3 GiB``."""
    if bytes_ < 1024:
        return f"{bytes_} B"
    scaled = float(bytes_)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        scaled /= 1024
        if scaled < 1024 or unit == "TiB":
            break
    return f"{scaled:.1f} {unit}"


def facts(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a line for each name and value; the values are aligned."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        yield f"{name.ljust(width)}   {value}"


def is_terminal() -> bool:
    return sys.stdout.isatty()
