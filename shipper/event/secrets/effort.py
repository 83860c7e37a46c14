"""A bound on the work for one text, so that no text takes more than its length in time.

What masks a text counts what it looks at. After thousands of such places the rest of the text is masked as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..._support.lazy_pattern import LazyPattern
from ..markers import left_out

MAX_EFFORT = 3000
"""For one pass over a text: 1 for each key that is looked at, more for a new key and for a value that is masked."""


def rest_masked(text: str, position: int, mask: str) -> str:
    """What stands in place of the text from there on."""
    return f"{mask}{left_out(len(text) - position, 'characters')}"


def substitute(pattern: LazyPattern, text: str, replace: Callable[[re.Match[str]], str], mask: str) -> str:
    """``pattern.sub(replace, text)``, up to a number of matches."""
    kept: list[str] = []
    done = 0
    for count, match in enumerate(pattern.finditer(text)):
        if count == MAX_EFFORT:
            kept.append(text[done : match.start()])
            return "".join([*kept, rest_masked(text, match.start(), mask)])
        kept += text[done : match.start()], replace(match)
        done = match.end()
    return "".join([*kept, text[done:]]) if kept else text
