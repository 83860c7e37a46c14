"""The user's own regular expressions for what is to be masked.

A pattern that takes exponential or cubic time is refused when `Redact` is created, since nothing can interrupt `re`.
One that is only slow on long texts is left to the caller's guard: see `redact.Redactor`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import product

from ...errors import ConfigurationError

SETTING = "redact.patterns"
_PROBE_SECONDS = 0.02
_PROBE_REPEATS = (*range(4, 31, 2), 42, 58, 80, 110, 150, 210, 290, 400)


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile the pattern; ConfigurationError if it is invalid, matches an empty text, or takes exponential time."""
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ConfigurationError(SETTING, pattern, f"a regular expression ({exc})") from exc
    if found.match(""):
        raise ConfigurationError(SETTING, pattern, "a regular expression that does not match an empty text")
    if probe := _explodes(found):
        allowed = f"a regular expression that does not explode, as this one does when {probe!r} is repeated"
        raise ConfigurationError(SETTING, pattern, allowed)
    return found


def _explodes(pattern: re.Pattern[str]) -> str | None:
    """Return a piece of text whose repetition takes the pattern very long; None when none is found.

    Exponential and cubic time show when a repeated piece is followed by something that the pattern does not match. The
    texts grow slowly, so that the first slow one takes only a few times `_PROBE_SECONDS`.
    """
    if not re.search(r"[*+}]", pattern.pattern):
        return None
    literals: list[str] = re.findall(r"[A-Za-z]{2,}|[\w .:@,;=&/-]", re.sub(r"\\[A-Za-z]", "", pattern.pattern))
    pieces = [*dict.fromkeys(["a", "A", "0", " ", "-", *literals])][:40]
    # `re` skips a text that is shorter than the shortest match, so few repeats are tried with a long end too.
    for (end, most), piece in product((("\0", 20), ("\0" * 40, 30), ("\0", 400)), pieces):
        for repeats in _PROBE_REPEATS:
            probe = piece * repeats + end
            if repeats > most:
                break
            if _is_slow(pattern, probe) and _is_slow(pattern, probe):
                return piece
    return None


def _is_slow(pattern: re.Pattern[str], text: str) -> bool:
    started = time.thread_time()  # the thread's CPU time: the machine may be busy
    pattern.search(text)
    return time.thread_time() - started > _PROBE_SECONDS


class OwnPatterns:
    """Masks what the patterns match in a text: their group 1 when they have groups, else all of the match."""

    def __init__(self, patterns: Iterable[str], mask: str) -> None:
        self._patterns = tuple(map(compiled, patterns))
        self._mask = mask

    def __call__(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(self._replaced, text)
        return text

    def _replaced(self, match: re.Match[str]) -> str:
        start, end = match.span(1 if match.re.groups else 0)
        if start < 0:
            return match[0]
        whole = match.start()
        return f"{match[0][: start - whole]}{self._mask}{match[0][end - whole :]}"
