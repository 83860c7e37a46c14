"""Bound the work for one text, so that its time is at most linear in its length.

Each place where a match may begin costs effort: the places are estimated before a search. Each key and each value that
is looked at costs effort too. A text that takes more than its length allows is cut where the allowance ends, and its
rest is masked as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..._support.lazy_pattern import LazyPattern
from ..markers import left_out

BASE = 185.0
"""The effort that any text may take, however short, in units of about a microsecond."""

PER_CHARACTER = 0.0078

_SAMPLE = 2048  # characters in a sample of a long text, about


class Effort:
    """The effort left for one text, and the number of characters at its end that it did not suffice for."""

    __slots__ = ("ended_at", "left", "left_out")

    def __init__(self, characters: int) -> None:
        self.left = BASE + PER_CHARACTER * characters
        self.left_out = 0
        self.ended_at: int | None = None
        """Where a search stopped because no effort was left."""

    def spend(self, text: str, cost: float) -> str:
        """Spend the cost of a search; return the text, or only its beginning when not enough effort is left."""
        if cost <= self.left:
            self.left -= cost
            return text
        affordable = max(0.0, self.left) * 0.8  # the other searches need something too
        self.left -= affordable
        return self.cut(text, int(len(text) * affordable / cost) if cost > 0 else 0)

    def cut(self, text: str, position: int) -> str:
        """Return the text up to the position; the rest counts as left out."""
        self.left_out += max(0, len(text) - position)
        return text[:position]

    def ended(self, text: str, mask: str) -> str:
        """The text, with the mask and a marker in place of what was cut."""
        return f"{text}{mask}{left_out(self.left_out, 'characters')}" if self.left_out else text


def without(text: str, spans: Iterable[tuple[int, int]], mask: str, effort: Effort) -> str:
    """The text with the mask in place of the spans, which come in order and do not overlap; each costs effort."""
    kept: list[str] = []
    done = 0
    for start, end in spans:
        effort.left -= 1
        if effort.left < 0:
            return "".join([*kept, effort.cut(text, start)[done:]])
        if start < end:
            kept += text[done:start], mask
            done = end
    if effort.ended_at is not None:
        text, effort.ended_at = effort.cut(text, max(done, effort.ended_at)), None
    return "".join([*kept, text[done:]]) if kept else text


def matches(pattern: LazyPattern, text: str, literal: str, effort: Effort, cost: float) -> Iterator[re.Match[str]]:
    """Yield the matches of a pattern that begins with the literal; each place of the literal costs effort.

    The search stops when no effort is left, and `without` cuts the text there.
    """
    place = text.find(literal)
    while place >= 0:
        effort.left -= cost
        if effort.left < 0:
            effort.ended_at = place
            return
        found = pattern.match(text, place)
        if found:
            yield found
        place = text.find(literal, found.end() if found else place + 1)


def same_length(text: str) -> str:
    """Return the text in lower case, with as many characters."""
    if "\u0130" in text:  # the one capital letter that becomes two characters
        text = text.replace("\u0130", "i")
    return text.lower()


def estimated(text: str, characters: str) -> int:
    """Estimate how many of the characters are in the text, from samples of a long one."""
    step = 1 + len(text) // _SAMPLE
    middle = len(text) // 2
    samples = (text[::step], text[middle : middle + _SAMPLE])
    return max(sum(map(sample.count, characters)) * len(text) // max(1, len(sample)) for sample in samples)
