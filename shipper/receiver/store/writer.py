"""Writes requests, records and events; the oldest records go when the database is full."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence

from ..services.facts import MAX_WORDS, Facts
from ..services.service import Arrival
from .database import storable
from .exchange import Exchange

MAX_REQUESTS = 100_000
"""About how many requests are kept: older ones are deleted once per 1000 requests."""

_SIZE_OF_ROW = 400  # bytes of a record or event besides its texts, about
_SIZE_OF_ATTEMPT = 60
_ROOM = 0.9  # share of the allowed bytes that is kept when the oldest records are removed

_EVENT = """
INSERT INTO events (id, service, key, time, level, rank, logger, message, body, received, record)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (service, key) DO NOTHING
"""
_AGAIN = "UPDATE events SET copies = copies + 1 WHERE service = ? AND key = ?"
_REQUEST = "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ATTEMPT = "INSERT OR IGNORE INTO attempts VALUES (?, ?)"
_FOUND = "SELECT id, weight, extras, words FROM records WHERE ident = ?"
_MERGE = """
UPDATE records SET weight = ?, at = ?, level = ?, rank = ?, logger = ?, kind = ?,
    app = COALESCE(NULLIF(?, ''), app), host = COALESCE(NULLIF(?, ''), host), pid = COALESCE(NULLIF(?, ''), pid),
    trace = COALESCE(NULLIF(?, ''), trace), parent = COALESCE(NULLIF(?, ''), parent)
WHERE id = ?
"""
_SIZES = f"""
SELECT id, size + (SELECT COALESCE(SUM(LENGTH(body) + {_SIZE_OF_ROW}), 0) FROM events WHERE record = records.id) AS size
FROM records"""
_ADOPT = "UPDATE records SET parent = ? WHERE ident = ? AND parent = '' AND ident != ?"
_FILL = """
UPDATE records SET extras = ?, words = ?, size = size + ?, app = COALESCE(NULLIF(app, ''), ?),
    host = COALESCE(NULLIF(host, ''), ?), pid = COALESCE(NULLIF(pid, ''), ?), trace = COALESCE(NULLIF(trace, ''), ?),
    parent = COALESCE(NULLIF(parent, ''), ?), took = COALESCE(took, ?)
WHERE id = ?
"""


class Writer:
    """Writes into ``db``, inside a transaction of its caller. ``max_bytes``: about how much is kept."""

    def __init__(self, db: sqlite3.Connection, max_bytes: int) -> None:
        self._db = db
        self._max_bytes = max_bytes
        self._size = self._value(f"SELECT COALESCE(SUM(size), 0) FROM ({_SIZES})")
        self._event = self._value("SELECT COALESCE(MAX(id), 0) FROM events")
        self._record = self._value("SELECT COALESCE(MAX(id), 0) FROM records")
        self._request = self._value("SELECT COALESCE(MAX(id), 0) FROM requests")
        self.removed = 0  # records that were removed to make room
        self.generation = 0  # changes when records have been removed

    @property
    def last_record(self) -> int:
        return self._record

    @property
    def last_request(self) -> int:
        return self._request

    def request(self, service: str, exchange: Exchange, events: int) -> int:
        """Add a request; return its number."""
        self._request += 1
        seen = (exchange.at, exchange.took, exchange.size, events, exchange.status, exchange.outcome)
        became = (storable(exchange.reason), exchange.failed, exchange.wanted, exchange.stored)
        self._db.execute(_REQUEST, (self._request, service, *seen, *became))
        if self._request % 1000 == 0:
            self._db.execute("DELETE FROM requests WHERE id <= ?", [self._request - MAX_REQUESTS])
        return self._request

    def record(self, ident: str | None, arrival: Arrival, now: float) -> int:
        """Add an event's record, or complete the one with its id; return the record's number."""
        found = None if ident is None else self._db.execute(_FOUND, [ident]).fetchone()
        if found is None:
            record = self._new_record(ident, arrival, now)
        else:
            record = found[0]
            self._merge(arrival, now, *found)
        if arrival.facts.members and ident is not None:
            self._adopt(ident, arrival.facts.members)
        return record

    def attempts(self, records: Sequence[int], request: int) -> None:
        """Note that these records were in a request."""
        self._db.executemany(_ATTEMPT, [(record, request) for record in records])

    def event(self, service: str, key: str | None, arrival: Arrival, now: float, record: int) -> bool:
        """Add an event, or count another copy of it; return whether it is the first with its key."""
        texts = storable(arrival.logger), storable(arrival.message), arrival.body
        row = (self._event + 1, service, key, arrival.time, arrival.level, arrival.rank, *texts, now, record)
        if not self._db.execute(_EVENT, row).rowcount:
            self._db.execute(_AGAIN, (service, key))
            return False
        self._event += 1
        self._size += len(arrival.body) + _SIZE_OF_ROW
        return True

    def make_room(self) -> None:
        """Above ``max_bytes``, remove the oldest records until 90 % of it is left, but never the newest."""
        if self._size <= self._max_bytes:
            return
        last, size, count = 0, self._size, 0
        for record, one in self._db.execute(f"{_SIZES} WHERE id < ? ORDER BY id", [self._record]):
            last, size, count = record, size - one, count + 1
            if size <= self._max_bytes * _ROOM:
                break
        if count:
            self._remove(last)
            self._size = size
            self.removed += count

    def clear(self) -> None:
        self._remove(self._record)
        self._db.execute("DELETE FROM requests")
        self._size = self.removed = 0

    def _remove(self, last: int) -> None:
        for table, column in (("events", "record"), ("attempts", "record"), ("records", "id")):
            self._db.execute(f"DELETE FROM {table} WHERE {column} <= ?", [last])
        self._db.execute("DELETE FROM requests WHERE id < (SELECT MIN(request) FROM attempts)")
        self.generation += 1

    def _new_record(self, ident: str | None, arrival: Arrival, now: float) -> int:
        self._record += 1
        facts = arrival.facts
        words = _folded(" ".join(_pieces(ident, arrival)))
        extras = json.dumps(facts.extras) if facts.extras else "{}"
        size = len(words) + len(extras) + _SIZE_OF_ROW
        what = (arrival.level, arrival.rank, storable(facts.logger or arrival.logger), storable(arrival.message))
        where = map(storable, (facts.app, facts.host, facts.pid, facts.trace, facts.kind, facts.parent))
        at = now if arrival.time is None else arrival.time
        row = (self._record, ident, facts.weight, at, *what, *where, facts.took, extras, words, size)
        self._db.execute(_RECORD, row)
        self._size += size
        return self._record

    def _merge(self, arrival: Arrival, now: float, record: int, weight: int, extras: str, words: str) -> None:
        facts = arrival.facts
        where = tuple(map(storable, (facts.app, facts.host, facts.pid, facts.trace, facts.parent)))
        if facts.weight > weight:
            at = now if arrival.time is None else arrival.time
            what = (arrival.level, arrival.rank, storable(facts.logger or arrival.logger), facts.kind)
            self._db.execute(_MERGE, (facts.weight, at, *what, *where, record))
        fresh = " ".join(piece for piece in map(_folded, _pieces(None, arrival)) if piece not in words)
        size = _SIZE_OF_ATTEMPT
        if fresh and len(words) < MAX_WORDS:
            size += len(fresh)
            words = f"{words} {fresh}"[:MAX_WORDS]
        self._size += size
        self._db.execute(_FILL, (_richer(extras, facts, weight), words, size, *where, facts.took, record))

    def _adopt(self, parent: str, members: Sequence[str]) -> None:
        """Make an activity the parent of its members, those that have come before it and have none."""
        self._db.executemany(_ADOPT, [(parent, storable(member), parent) for member in members])

    def _value(self, query: str) -> int:
        (value,) = self._db.execute(query).fetchone()
        return int(value)


def _richer(extras: str, facts: Facts, weight: int) -> str:
    """The extras of the service with the greater weight; those of the other if it has none."""
    if not facts.extras or (facts.weight <= weight and extras != "{}"):
        return extras
    return json.dumps(facts.extras)


def _pieces(ident: str | None, arrival: Arrival) -> Iterator[str]:
    """Yield the texts that can be searched for."""
    facts = arrival.facts
    said = (arrival.message, arrival.logger, facts.logger, ident or "", facts.app, facts.host, facts.trace)
    extras = (f"{name}={value}" for name, value in facts.extras.items())
    return (text for text in (*said, *extras, facts.words) if text)


def _folded(text: str) -> str:
    # A NUL would end the text for SQLite's functions.
    return storable(text[:MAX_WORDS]).replace("\0", "\\x00").casefold()
