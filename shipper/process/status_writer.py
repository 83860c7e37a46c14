"""SHIPPER - how the process does, told in status.json: the only thing that flows back to the application."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

from ..config.settings import Settings
from ..journal.account import Ledger
from ..journal.writer import Position
from ..spool.files import write_atomically
from ..spool.layout import Spool
from ..transport.overflow import Drops, living_drops
from .intake import Intake

AWAITED = 0.02  # seconds between two status files while somebody flushes
PROGRESS = 0.2  # ... when something happens
HEARTBEAT = 1.0  # ... and when nothing does
PATIENT = 10.0  # seconds after which whoever still waits for a flush is told at leisure


class Telling:
    """Used by the main thread of the shipper process. `settings` and `load` are what it tells of, as they are now."""

    def __init__(
        self,
        spool: Spool,
        settings: Settings,
        ledger: Ledger,
        intake: Intake,
        deliverers: Sequence[Any],
        *,
        overflows: Sequence[str],
    ) -> None:
        self.settings = settings
        self.load: Any = None
        self._path = spool.status
        self._ledger = ledger
        self._intake = intake
        self._deliverers = deliverers
        self._overflows = overflows
        self._started = time.time()
        self._known: tuple[Settings | None, str] = (None, "")  # settings, and their digest
        self._said: dict[str, Any] = {}
        self._said_at = 0.0
        self._marks: dict[str, tuple[int, int, int]] = {}
        self._marked_at = 0.0

    @property
    def is_awaited(self) -> bool:
        """Whether somebody flushes: a mark was seen that a backend has not passed yet, or that was not told yet."""
        marks = self._ledger.marks()
        if marks != self._said.get("marks", {}):
            return True
        if marks != self._marks:
            self._marks, self._marked_at = marks, time.monotonic()
        if time.monotonic() - self._marked_at > PATIENT:
            return False
        # What was told counts, not what is: whoever waits reads the file.
        told = (each["position"] for each in self._said.get("backends", {}).values())
        behind = min(told, default=self._ledger.position)
        return any(Position(segment, offset) > behind for _, segment, offset in marks.values())

    def tell(self, *, last: bool = False) -> None:
        """Write status.json when it is time to."""
        now = time.monotonic()
        pause = 0.0 if last else AWAITED if self.is_awaited else PROGRESS
        if now - self._said_at < pause:
            return
        state = self._state()
        if state == self._said and not last and now - self._said_at < HEARTBEAT:
            return
        self._said, self._said_at = state, now
        with contextlib.suppress(OSError):
            write_atomically(self._path, {**state, "updated": time.time(), "ended": last})

    def _state(self) -> dict[str, Any]:
        ledger = self._ledger
        return {
            "app": self.settings.app,
            "pid": os.getpid(),
            "started": self._started,
            "digest": self._digest(),
            "ledger": {
                **ledger.summary(),
                "position": ledger.position,
                "missing": ledger.missing,
                "seen": ledger.seen(),
            },
            "dropped": self._dropped(),
            "marks": ledger.marks(),
            "backends": {each.backend.name: _backend_state(each) for each in self._deliverers},
            "journal": {"trouble": self._intake.trouble, "full": self._intake.paused.is_set()},
            "writers": not self._intake.eof.is_set(),
            "load": self.load.latest if self.load is not None else None,
        }

    def _digest(self) -> str:
        settings, digest = self._known
        if settings is not self.settings:  # once for each: it was a tenth of what a quiet process did
            digest = self.settings.digest
            self._known = self.settings, digest
        return digest

    def _dropped(self) -> Drops:
        for folder in self._overflows:
            for name, drops in living_drops(folder).items():
                self._ledger.note_drops(name, 0, drops)
        return self._ledger.drops


def _backend_state(deliverer: Any) -> dict[str, Any]:
    return {
        "state": deliverer.state,
        "position": deliverer.position,
        "base": deliverer.base,
        "counts": deliverer.counts,
        "dropped": deliverer.dropped,
        "settled": deliverer.settled_count,
        "retried": deliverer.retried,
        "in_flight": deliverer.in_flight.size,
        "oldest": deliverer.oldest,
        "last_error": deliverer.last_error,
    }
