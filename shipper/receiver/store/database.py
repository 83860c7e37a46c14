"""The receiver's SQLite database: what was sent to the services, by record, by event and by request.

A record is what an application logged. An event is a record as one service received it, with that service's key;
copies of an event are counted. A request carries events; an attempt is one record in one request, accepted or not.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from ...errors import ConfigurationError
from ..services.facts import ident

SCHEMA = """
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
    record INTEGER NOT NULL DEFAULT 0,
    UNIQUE (service, key)
);
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY,
    ident TEXT UNIQUE,
    weight INTEGER NOT NULL,
    at REAL NOT NULL,
    level TEXT NOT NULL,
    rank INTEGER NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    app TEXT NOT NULL,
    host TEXT NOT NULL,
    pid TEXT NOT NULL,
    trace TEXT NOT NULL,
    kind TEXT NOT NULL,
    parent TEXT NOT NULL,
    took REAL,
    extras TEXT NOT NULL,
    words TEXT NOT NULL,
    size INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    at REAL NOT NULL,
    took REAL NOT NULL,
    size INTEGER NOT NULL,
    events INTEGER NOT NULL,
    status INTEGER,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    failed INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    stored INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    record INTEGER NOT NULL,
    request INTEGER NOT NULL,
    PRIMARY KEY (record, request)
) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX IF NOT EXISTS events_of_record ON events (record);
CREATE INDEX IF NOT EXISTS records_of_trace ON records (trace) WHERE trace != '';
CREATE INDEX IF NOT EXISTS records_of_parent ON records (parent) WHERE parent != '';
CREATE INDEX IF NOT EXISTS requests_of_service ON requests (service, at);
"""
_COLUMNS_OF_EVENTS = "id, service, key, time, level, rank, logger, message, body, received, copies"
_RECORDS_OF_EVENTS = """
INSERT OR IGNORE INTO records
SELECT id, ident(key), 0, COALESCE(time, received), level, rank, logger, message, '', '', '', '', 'log', '', NULL, '{}',
    folded(message || ' ' || logger || ' ' || COALESCE(key, '')), LENGTH(message)
FROM events ORDER BY id
"""
_RECORD_OF_EVENT = """
UPDATE events SET record = COALESCE((SELECT id FROM records WHERE ident = ident(events.key)), id)
"""


def open_database(database: str | os.PathLike[str]) -> sqlite3.Connection:
    """Open the database, or create it; the connection is for one thread at a time.

    ConfigurationError when the path can't be written, or the file is no database of the receiver.
    """
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
        _prepare(db)
    except sqlite3.Error as exc:
        db.close()
        raise ConfigurationError("database", path, f"a database of this receiver, or a new file ({exc})") from exc
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    # A commit is in the page cache, which outlives the process; only a power cut loses the last ones.
    db.execute("PRAGMA synchronous = NORMAL")
    db.create_function("ident", 1, ident, deterministic=True)
    db.create_function("folded", 1, str.casefold, deterministic=True)
    db.executescript(SCHEMA)
    db.execute(f"SELECT {_COLUMNS_OF_EVENTS} FROM events LIMIT 0")
    columns = [row[1] for row in db.execute("PRAGMA table_info(events)")]
    if "record" not in columns:
        # The file was made by a version that had no records, only events.
        db.execute("BEGIN")
        db.execute("ALTER TABLE events ADD COLUMN record INTEGER NOT NULL DEFAULT 0")
        db.execute(_RECORDS_OF_EVENTS)
        db.execute(_RECORD_OF_EVENT)
        db.execute("COMMIT")
    db.executescript(_INDEXES)


def storable(text: str) -> str:
    """The text with lone surrogates, which JSON may hold and UTF-8 may not, replaced by text such as ``\\udc80``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
