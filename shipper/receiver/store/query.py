"""The search line of the page: ``level:warning logger:shop* extra.order:17 "card refused" -app:test``.

Terms are joined by AND; ``-`` before one negates it. A term without a field is searched for everywhere, ignoring case.
``*`` in a field's value stands for any text. ``app:`` finds records that have an app, ``extra.NAME:`` those with that
extra. ``level:error`` is error and above, ``level:=info`` only info. ``extra.NAME:>10`` compares numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..services.facts import ident
from ..services.service import RANKS
from .database import storable

_COLUMNS = ("logger", "app", "host", "pid", "trace", "kind", "parent")
FIELDS = ("level", *_COLUMNS, "id", "message", "service", "request", "is", "extra.")
"""What can stand before a colon."""

STATES = {
    "duplicate": "EXISTS (SELECT 1 FROM events WHERE record = records.id AND copies > 1)",
    "undelivered": "NOT EXISTS (SELECT 1 FROM events WHERE record = records.id)",
    "retried": (
        "EXISTS (SELECT 1 FROM attempts JOIN requests ON requests.id = attempts.request"
        " WHERE attempts.record = records.id AND requests.failed)"
    ),
}
"""Value of ``is:`` → condition."""

MAX_TERMS = 30
MAX_TEXT = 1000

_TERM = re.compile(r'(-?)(?:([A-Za-z][^\s:"]*):)?("(?:[^"\\]|\\.)*"?|[^\s"][^\s]*|(?<=:))')
_COMPARISON = re.compile(r"(>=|<=|>|<)(-?\d+(?:\.\d+)?)")


@dataclass(slots=True)
class Query:
    """An SQL condition on the table `records`, its values, and notes about terms that are not understood."""

    where: list[str] = field(default_factory=list)
    values: list[str | int | float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def condition(self) -> str:
        return " AND ".join(self.where) or "1"

    def add(self, negated: bool, condition: str, *values: str | int | float) -> None:
        self.where.append(f"NOT ({condition})" if negated else f"({condition})")
        self.values.extend(values)


def parse(text: str) -> Query:
    """The query of a search line. Never raises: what is not understood is searched for as text, and noted."""
    query = Query()
    for number, found in enumerate(_TERM.finditer(text[:10_000])):
        if number == MAX_TERMS:
            query.notes.append(f"only the first {MAX_TERMS} terms count")
            break
        _add_term(query, found[1] == "-", found[2] or "", _unquoted(found[3]), found[0])
    return query


def _add_term(query: Query, negated: bool, name: str, value: str, whole: str) -> None:
    lower = name.lower()
    if not name:
        _add_text(query, negated, value)
    elif lower.startswith("extra."):
        _add_extra(query, negated, name[len("extra.") :], value)
    elif lower in _COLUMNS and not value:
        query.add(negated, f"{lower} != ''")
    elif lower in _COLUMNS:
        query.add(negated, rf"{lower} LIKE ? ESCAPE '\'", _pattern(value))
    elif lower in _SPECIAL and not value:
        return  # it is being typed
    elif lower in _SPECIAL:
        _SPECIAL[lower](query, negated, value)
    else:
        # Addresses and times have colons too.
        if not value.startswith("//") and len(name) > 1:
            known = ", ".join(FIELDS)
            query.notes.append(f"{name} is no field, so that {whole} is searched for as text; fields: {known}NAME")
        _add_text(query, negated, f"{name}:{value}")


def _add_text(query: Query, negated: bool, text: str) -> None:
    if text:
        query.add(negated, "INSTR(words, ?) > 0", storable(text[:MAX_TEXT]).replace("\0", "\\x00").casefold())


def _add_extra(query: Query, negated: bool, name: str, value: str) -> None:
    compared = _COMPARISON.fullmatch(value)
    if compared:
        condition, given = f"CAST(value AS REAL) {compared[1]} ?", float(compared[2])
        query.add(negated, f"EXISTS (SELECT 1 FROM json_each(extras) WHERE key = ? AND {condition})", name, given)
        return
    condition = r"EXISTS (SELECT 1 FROM json_each(extras) WHERE key = ? AND value LIKE ? ESCAPE '\')"
    query.add(negated, condition, storable(name), _pattern(value or "*"))


def _add_level(query: Query, negated: bool, value: str) -> None:
    name = value.lower().lstrip("=>")
    name = {"warn": "warning", "err": "error"}.get(name, name)
    if name not in RANKS:
        query.notes.append(f"{value} is no level; levels: {', '.join(RANKS)}")
        query.add(negated, "0")
        return
    query.add(negated, "rank = ?" if value.startswith("=") else "rank >= ?", RANKS[name])


def _add_id(query: Query, negated: bool, value: str) -> None:
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 19 else -1
    query.add(negated, "ident = ? OR id = ?", storable(ident(value) or ""), number)


def _add_message(query: Query, negated: bool, value: str) -> None:
    query.add(negated, r"message LIKE ? ESCAPE '\'", _pattern(f"*{value}*"))


def _add_service(query: Query, negated: bool, value: str) -> None:
    query.add(negated, "EXISTS (SELECT 1 FROM events WHERE record = records.id AND service = ?)", value.lower())


def _add_request(query: Query, negated: bool, value: str) -> None:
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 19 else -1
    query.add(negated, "EXISTS (SELECT 1 FROM attempts WHERE record = records.id AND request = ?)", number)


def _add_state(query: Query, negated: bool, value: str) -> None:
    condition = STATES.get(value.lower())
    if condition is None:
        query.notes.append(f"is:{value} is not known; it may be {', '.join(STATES)}")
    query.add(negated, condition or "0")


_SPECIAL = {
    "level": _add_level,
    "id": _add_id,
    "message": _add_message,
    "service": _add_service,
    "request": _add_request,
    "is": _add_state,
}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    inner = value[1:-1] if len(value) > 1 and value.endswith('"') else value[1:]
    return re.sub(r"\\(.)", r"\1", inner)


def _pattern(value: str) -> str:
    text = storable(value[:MAX_TEXT])
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_").replace("*", "%")
