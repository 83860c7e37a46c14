"""Reads records for the page: lists with a histogram, one record with its attempts, and related records."""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..services.facts import ident
from .database import storable
from .query import parse
from .writer import Writer

MAX_ROWS = 500
"""The most records of one listing."""

MAX_RELATED = 500
MAX_BUCKETS = 400
_REMEMBERED = 6  # results of queries that are cached, since a list is read in pages

_ROW = "id, ident, at, level, rank, logger, message, app, host, pid, trace, kind, parent, took"
_REQUEST = "id, service, at, took, size, events, status, outcome, reason, failed, wanted, stored"
_WARNING, _ERROR = 30, 40
_MESSAGE = 600  # characters of a message in a list


@dataclass(frozen=True, slots=True)
class Matches:
    """The records that a query finds, newest first: their ids, times and ranks."""

    ids: array[int]
    times: array[float]
    ranks: array[int]

    def between(self, since: float | None, until: float | None) -> array[int]:
        """The ids of the records from ``since`` to ``until``, in seconds since the epoch; None: no bound."""
        if since is None and until is None:
            return self.ids
        low = float("-inf") if since is None else since
        high = float("inf") if until is None else until
        found = zip(self.ids, self.times, strict=True)
        return array("q", [id for id, time in found if low <= time <= high])


class Records:
    """Reads from the database of a `Store`, under its lock."""

    def __init__(self, db: sqlite3.Connection, lock: threading.Lock, writer: Writer) -> None:
        self._db = db
        self._lock = lock
        self._writer = writer
        self._matches: OrderedDict[tuple[Any, ...], Matches] = OrderedDict()

    def state(self) -> dict[str, int]:
        """The numbers of the ``last`` record and ``request``, and how many records were ``removed`` to make room.

        ``generation`` changes whenever records are removed.
        """
        writer = self._writer
        return {
            "last": writer.last_record,
            "request": writer.last_request,
            "removed": writer.removed,
            "generation": writer.generation,
        }

    def find(
        self,
        text: str = "",
        *,
        since: float | None = None,
        until: float | None = None,
        pin: int | None = None,
        offset: int = 0,
        limit: int = 100,
        buckets: int = 0,
    ) -> dict[str, Any]:
        """Records that match a search line, newest first: ``total`` and the ``rows`` from ``offset`` on.

        ``since`` and ``until`` are seconds since the epoch. ``pin``: no record after this one, so that the pages of a
        list fit together. ``buckets``: the number of intervals in the histogram, which counts all that match.
        """
        query = parse(text)
        with self._lock:
            pin = self._writer.last_record if pin is None else pin
            if not (query.where or buckets or since is not None or until is not None):
                return {**self._newest(pin, offset, limit), "notes": []}
            matches = self._matching(query.condition, query.values, pin)
            ids = matches.between(since, until)
            rows = self._rows(ids[offset : offset + _bounded(limit)])
        found: dict[str, Any] = {"pin": pin, "total": len(ids), "rows": rows, "notes": query.notes}
        if buckets:
            found["histogram"] = histogram(matches, min(buckets, MAX_BUCKETS))
        return found

    def count_after(self, text: str, pin: int, since: float | None, until: float | None) -> int:
        """How many records after ``pin`` match."""
        query = parse(text)
        low = -1e18 if since is None else since
        high = 1e18 if until is None else until
        sql = f"SELECT COUNT(*) FROM records WHERE id > ? AND at BETWEEN ? AND ? AND {query.condition}"
        with self._lock:
            (count,) = self._db.execute(sql, [pin, low, high, *query.values]).fetchone()
        return int(count)

    def one(self, name: str) -> dict[str, Any] | None:
        """A record by its number or its id, with what each service got and every attempt; None when unknown."""
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else -1
        sql = f"SELECT {_ROW}, extras FROM records WHERE id = ? OR ident = ? OR ident = ? LIMIT 1"
        with self._lock:
            values = [number, storable(name), storable(ident(name) or "")]
            row = self._db.execute(sql, values).fetchone()
            if row is None:
                return None
            record = _named(row, f"{_ROW}, extras")
            record["events"] = self._events(record["id"])
            record["attempts"] = self._attempts(record["id"])
            record["meanwhile"] = self._meanwhile(record)
        return record

    def related(self, name: str) -> dict[str, Any] | None:
        """All records of a record's trace, and the activities above and below it; None when the record is unknown."""
        record = self.one(name)
        if record is None:
            return None
        with self._lock:
            trace = self._where("trace = ? AND trace != ''", [record["trace"]])
            tree = self._family(record)
        return {"trace": trace, "tree": tree}

    def requests(
        self, service: str | None = None, *, failed: bool = False, before: int | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Requests, newest first, at most `MAX_ROWS`."""
        where = ["1"] + ["service = ?"] * bool(service) + ["failed"] * failed + ["id < ?"] * (before is not None)
        values: list[Any] = [value for value in (service, before) if value is not None]
        sql = f"SELECT {_REQUEST} FROM requests WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
        with self._lock:
            rows = self._db.execute(sql, [*values, _bounded(limit)]).fetchall()
        return [_named(row, _REQUEST) for row in rows]

    def _newest(self, pin: int, offset: int, limit: int) -> dict[str, Any]:
        """A part of the list of all records, with which the page opens; reads only the records that are shown."""
        (total,) = self._db.execute("SELECT COUNT(*) FROM records WHERE id <= ?", [pin]).fetchone()
        sql = "SELECT id FROM records WHERE id <= ? ORDER BY id DESC LIMIT ? OFFSET ?"
        ids = [id for (id,) in self._db.execute(sql, [pin, _bounded(limit), offset])]
        return {"pin": pin, "total": total, "rows": self._rows(ids)}

    def _matching(self, condition: str, values: Sequence[Any], pin: int) -> Matches:
        key = (self._writer.generation, condition, tuple(values), pin)
        found = self._matches.get(key)
        if found is None:
            sql = f"SELECT id, at, rank FROM records WHERE id <= ? AND {condition} ORDER BY id DESC"
            rows = self._db.execute(sql, [pin, *values]).fetchall()
            ids, times, ranks = zip(*rows, strict=True) if rows else ((), (), ())
            found = self._matches[key] = Matches(array("q", ids), array("d", times), array("q", ranks))
            if len(self._matches) > _REMEMBERED:
                self._matches.popitem(last=False)
        self._matches.move_to_end(key)
        return found

    def _rows(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        marks = ",".join("?" * len(ids))
        found = {row["id"]: row for row in self._where(f"id IN ({marks})", ids, limit=len(ids))}
        return [found[id] for id in ids if id in found]

    def _where(self, condition: str, values: Sequence[Any], limit: int = MAX_RELATED) -> list[dict[str, Any]]:
        sql = f"SELECT {_ROW} FROM records WHERE {condition} ORDER BY at, id LIMIT ?"
        rows = [_named(row, _ROW) for row in self._db.execute(sql, [*values, limit])]
        by_id = {row["id"]: row for row in rows}
        for row in rows:
            row["message"] = row["message"][:_MESSAGE]
            row["services"], row["tries"] = {}, {}
        marks = ",".join("?" * len(rows))
        sql = f"SELECT record, service, copies FROM events WHERE record IN ({marks})"
        for id, service, copies in self._db.execute(sql, list(by_id)):
            by_id[id]["services"][service] = copies
        sql = f"""
        SELECT record, service, SUM(failed), MAX(outcome) FILTER (WHERE failed) FROM attempts
        JOIN requests ON requests.id = request WHERE record IN ({marks}) GROUP BY record, service HAVING SUM(failed)"""
        for id, service, failed, outcome in self._db.execute(sql, list(by_id)):
            by_id[id]["tries"][service] = {"failed": failed, "outcome": outcome}
        return rows

    def _events(self, record: int) -> list[dict[str, Any]]:
        columns = "id, service, key, time, level, logger, message, received, copies, body"
        rows = self._db.execute(f"SELECT {columns} FROM events WHERE record = ? ORDER BY id", [record])
        return [_named(row, columns) for row in rows]

    def _attempts(self, record: int) -> list[dict[str, Any]]:
        sql = f"""
        SELECT {_REQUEST} FROM requests WHERE id IN (SELECT request FROM attempts WHERE record = ?)
        ORDER BY at LIMIT {MAX_ROWS}"""
        return [_named(row, _REQUEST) for row in self._db.execute(sql, [record])]

    def _meanwhile(self, record: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """By service: the failed requests without this record, between the time it was logged and its first arrival."""
        found: dict[str, list[dict[str, Any]]] = {}
        columns = "outcome, wanted, count"
        sql = """
        SELECT outcome, wanted, COUNT(*) FROM requests WHERE service = ? AND failed AND at BETWEEN ? AND ?
        AND id NOT IN (SELECT request FROM attempts WHERE record = ?)
        GROUP BY outcome, wanted ORDER BY 3 DESC LIMIT 20"""
        for event in record["events"]:
            rows = self._db.execute(sql, [event["service"], record["at"], event["received"], record["id"]]).fetchall()
            if rows:
                found[event["service"]] = [_named(row, columns) for row in rows]
        return found

    def _family(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        """The outermost activity around a record, and everything below it; empty without an activity."""
        root, seen = record, {record["ident"]}
        while root["parent"] and root["parent"] not in seen:
            seen.add(root["parent"])
            above = self._where("ident = ?", [root["parent"]])
            if not above:
                break
            root = above[0]
        if root["ident"] is None or (root["id"] == record["id"] and root["kind"] != "activity"):
            return []
        sql = f"""
        WITH RECURSIVE family (ident) AS (
            SELECT ? UNION SELECT records.ident FROM records JOIN family ON records.parent = family.ident
            WHERE records.parent != '' LIMIT {MAX_RELATED})
        SELECT ident FROM family"""
        idents = [ident for (ident,) in self._db.execute(sql, [root["ident"]])]
        return self._where(f"ident IN ({','.join('?' * len(idents))})", idents)


def histogram(matches: Matches, buckets: int) -> dict[str, Any] | None:
    """Counts by time and severity: ``buckets`` has [below warning, warning, error and above] for each part."""
    if not matches.times:
        return None
    begin, end = min(matches.times), max(matches.times)
    step = max((end - begin) / buckets, 0.001)
    counts = [[0, 0, 0] for _ in range(buckets)]
    for time, rank in zip(matches.times, matches.ranks, strict=True):
        place = min(int((time - begin) / step), buckets - 1)
        counts[place][0 if rank < _WARNING else 1 if rank < _ERROR else 2] += 1
    return {"from": begin, "step": step, "buckets": counts}


def _bounded(limit: int) -> int:
    return max(0, min(limit, MAX_ROWS))


def _named(row: tuple[Any, ...], columns: str) -> dict[str, Any]:
    return dict(zip(columns.split(", "), row, strict=True))
