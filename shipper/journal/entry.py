"""An event that was read and is not counted yet, and what can become of it."""

from __future__ import annotations

from collections import deque

from ..event.model import EventId, Origin
from .segments import Position

DELIVERED, FILTERED, DEAD = "delivered", "filtered", "dead"
INCOMPLETE, QUOTA, REFUSED_BY_RECEIVER = "incomplete", "quota", "refused_by_receiver"
LOST = (INCOMPLETE, QUOTA, REFUSED_BY_RECEIVER)
"""The outcomes that are drops: they are counted by level, too."""


class Entry:
    """One event of the journal. ``outcome`` is None until it is settled, ``payload`` None until all frames are there.

    ``weight`` is the number of events that it stands for: settled neighbours are kept as one entry. ``origin`` is where
    it was logged, None for this machine and app. The deliverer keeps its own notes here: ``attempts``, ``not_before``,
    ``failing_since``, ``passed_then``.
    """

    __slots__ = (
        "attempts",
        "failing_since",
        "id",
        "level",
        "not_before",
        "origin",
        "outcome",
        "passed_then",
        "payload",
        "pid",
        "start",
        "weight",
    )

    def __init__(self, start: Position, id: EventId, level: int, pid: int, payload: bytes | None) -> None:
        self.start = start
        self.id = id
        self.level = level
        self.pid = pid
        self.payload = payload
        self.origin: Origin | None = None
        self.outcome: str | None = None
        self.weight = 1
        self.attempts = 0
        self.not_before = 0.0
        self.failing_since: float | None = None
        self.passed_then = 0


def settle(entry: Entry, outcome: str) -> None:
    """Set what became of an event, one of the outcomes above, and free its payload."""
    entry.outcome = outcome
    entry.payload = b""


def compact(entries: deque[Entry]) -> deque[Entry]:
    """Return the entries; merge settled neighbours of one outcome, except lost ones, which are counted by level."""
    kept: deque[Entry] = deque()
    for entry in entries:
        last = kept[-1] if kept else None
        is_alike = last is not None and entry.outcome not in (None, *LOST) and entry.outcome == last.outcome
        if last is not None and is_alike:
            last.weight += entry.weight
        else:
            kept.append(entry)
    return kept
