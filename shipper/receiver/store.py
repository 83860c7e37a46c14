"""The events that arrived, in SQLite."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .faults import SERVICES
from .service import RANKS, Arrival

MAX_PAGE = 1000
"""The most events that one listing has."""


@dataclass(slots=True)
class Counts:
    """Of one service. ``events`` are those taken, duplicates among them: events = first ones + duplicates."""

    requests: int = 0
    events: int = 0
    keys: int = 0  # distinct
    duplicates: int = 0  # events whose key had been seen before
    failed: int = 0  # requests without a good answer: refused, or by a fault


_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    key TEXT,
    time REAL,
    level TEXT NOT NULL,
    rank INTEGER NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    body TEXT NOT NULL,
    received REAL NOT NULL,
    copies INTEGER NOT NULL DEFAULT 1,
    UNIQUE (service, key)
)
"""
_INSERT = """
INSERT INTO events (service, key, time, level, rank, logger, message, body, received)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (service, key) DO NOTHING
"""
_AGAIN = "UPDATE events SET copies = copies + 1 WHERE service = ? AND key = ?"
_SEARCHED = ("message", "logger", "key", "body")
_COLUMNS = "id, service, key, time, level, logger, message, received, copies"


class Store:
    """Events by service and key; an event that arrives again is counted, not stored twice. Thread-safe.

    ``database`` is a path or ":memory:". What was kept before in a file is there again; requests and failures are
    counted from now. Raises ConfigurationError when the file can't be opened as a database.
    """

    def __init__(self, database: str | os.PathLike[str] = ":memory:") -> None:
        self._lock = threading.Lock()
        self._db = _open(database)
        self._counts = {service: self._counted(service) for service in SERVICES}

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._db.close()

    def keep(self, service: str, arrivals: Iterable[Arrival]) -> None:
        """Store all of them or none. Stored in a file, they outlive a killed process once this has returned."""
        now = time.time()
        counts = self._counts[service]
        kept = again = keys = 0
        with self._lock:
            self._db.execute("BEGIN")
            try:
                for arrival in arrivals:
                    key = None if arrival.key is None else _storable(arrival.key)
                    if self._insert(service, key, arrival, now):
                        keys += key is not None
                    else:
                        again += 1
                    kept += 1
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            counts.events += kept
            counts.keys += keys
            counts.duplicates += again

    def count(self, service: str, *, failed: bool) -> None:
        """One more request of ``service``."""
        with self._lock:
            self._counts[service].requests += 1
            self._counts[service].failed += failed

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
        """Events of ``service`` that contain ``text``, from ``level`` on: newest first; with ``after`` oldest first.

        ``after`` and ``before`` are ids: only later or earlier ones. At most `MAX_PAGE` of them. Each has id, service,
        key, time (seconds, or None), level, logger, message, received (seconds), copies, and body (JSON as text).
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

    def _insert(self, service: str, key: str | None, arrival: Arrival, now: float) -> bool:
        row = (
            service,
            key,
            arrival.time,
            arrival.level,
            arrival.rank,
            _storable(arrival.logger),
            _storable(arrival.message),
            arrival.body,
            now,
        )
        if self._db.execute(_INSERT, row).rowcount:
            return True
        self._db.execute(_AGAIN, (service, key))
        return False

    def _counted(self, service: str) -> Counts:
        query = "SELECT COALESCE(SUM(copies), 0), COUNT(key), COUNT(*) FROM events WHERE service = ?"
        events, keys, first = self._db.execute(query, [service]).fetchone()
        return Counts(events=events, keys=keys, duplicates=events - first)


def _open(database: str | os.PathLike[str]) -> sqlite3.Connection:
    path = os.fspath(database)
    try:
        if path != ":memory:":
            # What is logged may be private; SQLite gives its side files the mode of this one.
            Path(path).touch(mode=0o600)
        # Transactions are begun explicitly; the lock of the store serialises threads.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as exc:
        raise ConfigurationError("database", path, f"a path that can be written, or :memory: ({exc})") from exc
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # A commit is in the page cache, which outlives the process; only a power cut loses the last ones.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(_SCHEMA)
        db.execute(f"SELECT {_COLUMNS}, rank, body FROM events LIMIT 0")
    except sqlite3.Error as exc:
        db.close()
        raise ConfigurationError("database", path, f"a database of this receiver, or a new file ({exc})") from exc
    return db


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
    text = _storable(text[:1000])
    escaped = text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def _storable(text: str) -> str:
    """JSON may hold half surrogates, which no UTF-8 has: they become ``\\udc80``, as text."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _named(row: tuple[Any, ...], columns: str) -> dict[str, Any]:
    return dict(zip(columns.split(", "), row, strict=True))
