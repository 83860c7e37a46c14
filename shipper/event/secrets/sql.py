"""Mask secrets in SQL that are apart from their column's name: in rows of an INSERT, and in lists of parameters.

INSERT INTO users (name, password) VALUES ('bob', 'hunter2')
UPDATE users SET password = %s WHERE id = %s; args=('hunter2', 3)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..._support.lazy_pattern import LazyPattern
from .effort import Effort, matches, same_length, without
from .keys import KeyRules, is_secret
from .names import OPEN

_INSERT = LazyPattern(  # in lower case
    r"into\s{1,4}[^\s()]{1,200}\s{0,4}\(([^()]{1,4000})\)\s{0,4}values?\s{0,4}(?=\()"
)
_DETAIL = LazyPattern(r"key \(([^()]{1,500})\)=(?=\()")  # (token)=(x) already exists, as PostgreSQL says it
_COLUMNS = (("into ", _INSERT), ("key (", _DETAIL))
_PARAMETERS = LazyPattern(r"(?:parameters: ?|args=|params[=:] ?)[\[(]")  # of SQLAlchemy, of Django
_SLOT = LazyPattern(  # each name is looked at once, from its beginning
    r"(?<![\w.\"`])([\w.\"`]{1,128})\s?=\s?(?:'[^']{0,500}'|\d)"
    r"|(?:(?<![\w.\"`])([\w.\"`]{1,128})\s?=\s?)?(?:%s|\?|\$\d{1,3})"
)
_ITEM = LazyPattern(
    r"\s{0,4}(?:[beBEnN]?(?:'(?P<single>(?:[^'\\]+|\\.|'')*)(?:'|\Z)|\"(?P<double>(?:[^\"\\]+|\\.)*)(?:\"|\Z))"
    r"|(?P<bare>[^,()\[\]'\"]{0,500}))\s{0,4}",
    re.DOTALL,
)
_NEXT_ROW = LazyPattern(r"\s{0,4},?\s{0,4}[(\[]")
_MAX_STATEMENT = 4096  # characters in front of its parameters
_MAX_ITEMS = 500
_STATEMENT_EFFORT = 4.0
_ITEM_EFFORT = 2.0


def is_likely(low: str) -> bool:
    """Whether `masked` may find a secret in the text, given in lower case."""
    if ")=(" in low:
        return True
    if "(" not in low or not ("into " in low or "where " in low):
        return False
    return "value" in low or "args=" in low or "param" in low


def masked(text: str, rules: KeyRules, mask: str, effort: Effort) -> str:
    """Return the text with the values of secret columns masked."""
    for literal, pattern in _COLUMNS:
        text = without(text, _behind_columns(text, literal, pattern, rules, effort), mask, effort)
    return without(text, _parameters(text, rules, effort), mask, effort)


def _behind_columns(
    text: str, literal: str, pattern: LazyPattern, rules: KeyRules, effort: Effort
) -> Iterator[tuple[int, int]]:
    """Yield where secrets are in the rows that follow a list of columns."""
    for found in matches(pattern, same_length(text), literal, effort, _STATEMENT_EFFORT):
        yield from _secret_items(text, found.end(), _verdicts(found[1].split(","), rules, effort), effort)


def _parameters(text: str, rules: KeyRules, effort: Effort) -> Iterator[tuple[int, int]]:
    done = 0
    for found in _PARAMETERS.finditer(text):
        statement = text[max(done, found.start() - _MAX_STATEMENT) : found.start()]
        effort.left -= _STATEMENT_EFFORT + len(statement) / 16
        done = found.end()
        if effort.left < 0:
            effort.ended_at = found.start()
            return
        insert = _INSERT.search(same_length(statement))
        slots = insert[1].split(",") if insert else [one[1] or one[2] or "" for one in _SLOT.finditer(statement)]
        yield from _secret_items(text, done - 1, _verdicts(slots, rules, effort), effort)


def _verdicts(columns: list[str], rules: KeyRules, effort: Effort) -> list[int]:
    """The verdict on each column; empty when none is secret."""
    effort.left -= _ITEM_EFFORT * len(columns)
    verdicts = [rules.verdict(one.strip().rpartition(".")[2].strip("\"'`[] ")) for one in columns[:_MAX_ITEMS]]
    return verdicts if any(verdict != OPEN for verdict in verdicts) else []


def _secret_items(text: str, start: int, verdicts: Sequence[int], effort: Effort) -> Iterator[tuple[int, int]]:
    """Yield where secrets are in the rows that begin at ``start``: ``('bob', 'hunter2'), ('eve', 'x1')``."""
    while verdicts and (row := _NEXT_ROW.match(text, start)):
        start = row.end()
        nested = _NEXT_ROW.match(text, start)
        start = nested.end() if nested else start
        for verdict in verdicts:
            item = _ITEM.match(text, start)
            effort.left -= _ITEM_EFFORT
            if item is None or effort.left < 0:
                return
            group = item.lastgroup or "bare"
            value = item[group].strip()
            if verdict != OPEN and value.lower() not in ("default", "?") and is_secret(value, verdict):
                yield item.span(group)
            start = item.end()
            if text[start : start + 1] != ",":
                break
            start += 1
        if text[start : start + 1] not in (")", "]"):
            return
        start += 1
