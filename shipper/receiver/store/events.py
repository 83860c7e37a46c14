"""The events that arrived, and how they got here."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..faults import SERVICES
from ..services.facts import ident
from ..services.service import RANKS, Arrival
from .changes import Changes
from .database import open_database, storable
from .exchange import Exchange
from .records import Records
from .writer import Writer

MAX_PAGE = 1000
"""The most events that one listing has."""

MAX_BYTES = 512 * 1024 * 1024
"""About how many bytes of records a receiver keeps; above that, the oldest are removed."""


@dataclass(slots=True)
class Counts:
    """The counts of one service. ``events`` are those that were stored, duplicates included."""

    requests: int = 0
    events: int = 0
    keys: int = 0  # distinct
    duplicates: int = 0  # events whose key had been seen before
    failed: int = 0  # requests without an answer, or with a status of 300 or more


_SEARCHED = ("message", "logger", "key", "body")
_COLUMNS = "id, service, key, time, level, logger, message, received, copies"


class Store:
    """Events by service and key; an event that arrives again is counted, not stored twice. Thread-safe.

    ``database`` is a path or ":memory:". What a file has from before is kept and counted, but for requests and
    failures, which are counted from 0. Above about ``max_bytes``, the oldest records are removed. ConfigurationError
    when the file can't be opened as a database.
    """

    def __init__(self, database: str | os.PathLike[str] = ":memory:", max_bytes: int = MAX_BYTES) -> None:
        self._lock = threading.Lock()
        self._db = open_database(database)
        self._writer = Writer(self._db, max_bytes)
        self._counts = {service: self._counted(service) for service in SERVICES}
        self.records = Records(self._db, self._lock, self._writer)
        self.changes = Changes()

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._db.close()

    def add(self, service: str, exchange: Exchange, arrivals: Sequence[Arrival] = ()) -> int:
        """Add one request with its events, all of them or none; return the request's number.

        Once this has returned, a database in a file keeps them even if the process is killed.
        """
        with self._lock, self._transaction():
            added = self._add(service, exchange, arrivals)
        self.changes.tell()
        return added

    def ended(self, request: int, seconds: float) -> None:
        """Note that a request without an answer has ended, after so many ``seconds``."""
        with self._lock:
            self._db.execute("UPDATE requests SET took = ? WHERE id = ?", (seconds, request))
        self.changes.tell()

    def clear(self) -> None:
        """Remove everything; counts begin at 0 again, ids continue."""
        with self._lock, self._transaction():
            self._writer.clear()
            self._counts = {service: Counts() for service in SERVICES}
        self.changes.tell()

    def counts(self) -> dict[str, dict[str, int]]:
        """By service: requests, events, keys, duplicates, failed."""
        with self._lock:
            return {service: asdict(counts) for service, counts in self._counts.items()}

    def keys(self, service: str | None = None) -> list[str]:
        """All distinct keys, in the order of their first arrival."""
        where, values = _where(service=service)
        query = f"SELECT key FROM events WHERE {where} AND key IS NOT NULL ORDER BY id"
        with self._lock:
            return [key for (key,) in self._db.execute(query, values)]

    def events(
        self,
        service: str | None = None,
        *,
        text: str = "",
        level: str = "",
        after: int | None = None,
        before: int | None = None,
        limit: int = 100,
        bodies: bool = True,
    ) -> list[dict[str, Any]]:
        """Events of ``service`` that contain ``text``, of at least ``level``: newest first, or with ``after`` oldest.

        Only events with ids above ``after`` and below ``before``; at most ``limit``, and at most `MAX_PAGE`. Each has
        id, service, key, time (seconds since the epoch, or None), level, logger, message, received (seconds since the
        epoch), copies, and, with ``bodies``, body (JSON as text).
        """
        where, values = _where(service, text, level, after, before)
        columns = f"{_COLUMNS}, body" if bodies else _COLUMNS
        order = "ASC" if after is not None else "DESC"
        query = f"SELECT {columns} FROM events WHERE {where} ORDER BY id {order} LIMIT ?"
        with self._lock:
            rows = self._db.execute(query, [*values, max(0, min(limit, MAX_PAGE))]).fetchall()
        return [_named(row, columns) for row in rows]

    def event(self, number: int) -> dict[str, Any] | None:
        """One event with its body, or None."""
        columns = f"{_COLUMNS}, body"
        with self._lock:
            row = self._db.execute(f"SELECT {columns} FROM events WHERE id = ?", [number]).fetchone()
        return None if row is None else _named(row, columns)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _add(self, service: str, exchange: Exchange, arrivals: Sequence[Arrival]) -> int:
        now, keys, first, kept = time.time(), 0, 0, 0
        records: list[int] = []
        request = self._writer.request(service, exchange, len(arrivals))
        for arrival in arrivals:
            key = None if arrival.key is None else storable(arrival.key)
            if key is None and not exchange.stored:
                continue  # without a key, its next attempt would look like another event
            record = self._writer.record(ident(key), arrival, now)
            records.append(record)
            if exchange.stored:
                kept += 1
                is_first = self._writer.event(service, key, arrival, now, record)
                first += is_first
                keys += is_first and key is not None
        self._writer.attempts(records, request)
        self._writer.make_room()
        counts = self._counts[service]
        counts.requests += 1
        counts.failed += exchange.failed
        counts.events += kept
        counts.keys += keys
        counts.duplicates += kept - first
        return request

    def _counted(self, service: str) -> Counts:
        query = "SELECT COALESCE(SUM(copies), 0), COUNT(key), COUNT(*) FROM events WHERE service = ?"
        events, keys, first = self._db.execute(query, [service]).fetchone()
        return Counts(events=events, keys=keys, duplicates=events - first)


def _where(
    service: str | None = None,
    text: str = "",
    level: str = "",
    after: int | None = None,
    before: int | None = None,
) -> tuple[str, list[str | int]]:
    where: list[str] = ["1"]
    values: list[str | int] = []
    if service:
        where.append("service = ?")
        values.append(service)
    if level:
        where.append("rank >= ?")
        values.append(RANKS.get(level.lower(), 0))
    if after is not None:
        where.append("id > ?")
        values.append(after)
    if before is not None:
        where.append("id < ?")
        values.append(before)
    if text:
        where.append("(" + " OR ".join(rf"{column} LIKE ? ESCAPE '\'" for column in _SEARCHED) + ")")
        values.extend([_pattern(text)] * len(_SEARCHED))
    return " AND ".join(where), values


def _pattern(text: str) -> str:
    # SQLite refuses patterns of more than 50,000 bytes.
    text = storable(text[:1000])
    escaped = text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def _named(row: tuple[Any, ...], columns: str) -> dict[str, Any]:
    return dict(zip(columns.split(", "), row, strict=True))
