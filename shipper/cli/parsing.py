"""The command line's parser: argparse with examples in its help, and with "did you mean" in its errors."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

_UNKNOWN = re.compile(r"unrecognized arguments: (?P<word>\S+)|invalid choice: '(?P<choice>[^']*)'")


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|min|h|d|)")
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """Return the seconds of a duration: ``30``, ``30s``, ``10m``, ``2h``, ``1d``. It may be 366 days at most.

    argparse.ArgumentTypeError for anything else.
    """
    found = _DURATION.fullmatch(text)
    if found is None or float(found[1]) * _SECONDS[found[2]] > 366 * 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30s, 10m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def number_of_seconds(least: float, most: float) -> Callable[[str], float]:
    """A type for argparse: a plain number of seconds within these bounds."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from {least:g} to {most:g}")
        return found

    return parse


class Help(argparse.HelpFormatter):
    """Wraps paragraphs, and keeps indented ones as they are: those are examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = (
            textwrap.indent(each, indent)
            if each.startswith("  ")
            else super(Help, self)._fill_text(each, width, indent)
            for each in text.split("\n\n")
        )
        return "\n\n".join(paragraphs)


class Parser(argparse.ArgumentParser):
    """Also the class of all subparsers. ``examples``: lines that are shown at the end of the help."""

    def __init__(self, *, examples: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self.formatter_class = Help
        if examples:
            lines = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
            self.epilog = "\n\n".join(filter(None, (self.epilog, "examples:", lines)))

    def error(self, message: str) -> NoReturn:
        super().error(f"{message}{self._suggestion(message)}")

    def _suggestion(self, message: str) -> str:
        found = _UNKNOWN.search(message)
        word = (found["word"] or found["choice"] or "").partition("=")[0] if found is not None else ""
        if not word:
            return ""
        close = difflib.get_close_matches(word, set(_words(self)), n=1, cutoff=0.6)
        return f"; did you mean {close[0]}?" if close else ""


def _words(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All options and subcommands of a parser and of its subparsers."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices
            for each in action.choices.values():
                yield from _words(each)
