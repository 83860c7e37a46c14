"""Writes `status.json`: how the process does. Nothing else flows back to the application.

Read by `shipper.report`, and by `flush` and `stop` of the application, which wait until the marks that they put into
the queue are in ``marks`` and every backend's ``position`` has passed them. Each mark is [number, segment, offset].
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..config.settings import Settings
from ..journal.account import Account
from ..journal.segments import Position
from ..spool.files import get_dict, get_drops, get_times, read_json, write_atomically
from ..transport.drops import Drops
from ..transport.orphans import living_drops
from .deliveries import Deliveries
from .intake import Intake
from .loss_times import LossTimes

if TYPE_CHECKING:
    from ..delivery.deliverer import Deliverer

FLUSH_SECONDS = 0.02  # between two files while a process waits for a flush
CHANGE_SECONDS = 0.2  # when something has changed
HEARTBEAT_SECONDS = 1.0  # when nothing has
MAX_FLUSH_SECONDS = 10.0  # after which a process that still waits is no reason to hurry


class StatusWriter:
    """Used by the main thread of the shipper process."""

    def __init__(
        self, path: str, account: Account, intake: Intake, deliveries: Deliveries, *, overflows: Sequence[str]
    ) -> None:
        self._path = path
        self._account = account
        self._intake = intake
        self._deliveries = deliveries
        self._overflows = overflows
        self._started = time.time()
        self._losses = _loss_times(path)
        self._backend_losses: dict[str, LossTimes] = {}
        self._digest_of: tuple[Settings | None, str] = (None, "")
        self._written: dict[str, Any] = {}
        self._written_at = 0.0
        self._marks: dict[str, tuple[int, int, int]] = {}
        self._marks_changed_at = 0.0

    @property
    def is_flush_waiting(self) -> bool:
        """Whether a process waits for a flush: a backend has not passed a mark, or the file does not say so yet."""
        marks = self._account.marks()
        if marks != self._written.get("marks", {}):
            return True
        if marks != self._marks:
            self._marks, self._marks_changed_at = marks, time.monotonic()
        if time.monotonic() - self._marks_changed_at > MAX_FLUSH_SECONDS:
            return False
        # What was written counts, not what is: the process that waits reads the file.
        positions = (each["position"] for each in self._written.get("backends", {}).values())
        least = min(positions, default=self._account.position)
        return any(Position(segment, offset) > least for _, segment, offset in marks.values())

    def write_if_due(self) -> None:
        """Write the file when it is time to."""
        now = time.monotonic()
        if now - self._written_at < (FLUSH_SECONDS if self.is_flush_waiting else CHANGE_SECONDS):
            return
        state = self._state()
        if state != self._written or now - self._written_at >= HEARTBEAT_SECONDS:
            self._write(state, last=False)

    def write(self, *, last: bool) -> None:
        """Write the file now. ``last``: the process ends."""
        self._write(self._state(), last=last)

    def _write(self, state: dict[str, Any], *, last: bool) -> None:
        self._written, self._written_at = state, time.monotonic()
        with contextlib.suppress(OSError):
            write_atomically(self._path, {**state, "updated": time.time(), "ended": last})

    def _state(self) -> dict[str, Any]:
        account = self._account
        load = self._deliveries.load
        return {
            "app": self._deliveries.settings.app,
            "pid": os.getpid(),
            "started": self._started,
            "digest": self._digest(),
            "ledger": {
                **account.summary(),
                "position": account.position,
                "missing": account.missing,
                "seen": account.seen(),
                "reached": account.reached(),
            },
            "dropped": (dropped := self._dropped()),
            "dropped_at": self._losses.update(dropped),
            "marks": account.marks(),
            "backends": {each.name: self._backend_state(each) for each in self._deliveries},
            "journal": {"trouble": self._intake.trouble, "full": self._intake.full.is_set()},
            "writers": not self._intake.eof.is_set(),
            "load": load.latest if load is not None else None,
        }

    def _digest(self) -> str:
        settings, digest = self._digest_of
        if settings is not self._deliveries.settings:  # only then: it was a tenth of the work of an idle process
            settings = self._deliveries.settings
            digest = settings.digest
            self._digest_of = settings, digest
        return digest

    def _dropped(self) -> Drops:
        for folder in self._overflows:
            for name, drops in living_drops(folder).items():
                self._account.note_drops(name, 0, drops)
        return self._account.drops

    def _backend_state(self, deliverer: Deliverer) -> dict[str, Any]:
        url, level = self._deliveries.address(deliverer.name)
        losses = self._backend_losses.get(deliverer.name)
        if losses is None:
            losses = self._backend_losses[deliverer.name] = _loss_times(self._path, deliverer.name)
        return {
            **_progress(deliverer),
            "url": url,
            "level": level,
            "dropped_at": losses.update(deliverer.progress.dropped),
        }


def _loss_times(path: str, backend: str = "") -> LossTimes:
    """What the last process wrote about losses, before the journal or of one backend."""
    said = read_json(path) or {}
    if backend:
        said = dict(get_dict(get_dict(said, "backends"), backend))
    return LossTimes(get_drops(said), get_times(said, "dropped_at"))


def _progress(deliverer: Deliverer) -> dict[str, Any]:
    progress = deliverer.progress
    requests, seconds = deliverer.latency.snapshot()
    return {
        "state": deliverer.state,
        "since": deliverer.since,
        "next_try": deliverer.next_try,
        "position": progress.position,
        "base": progress.base,
        "counts": progress.counts,
        "dropped": progress.dropped,
        "settled": progress.settled,
        "retried": deliverer.retried,
        "in_flight": deliverer.requests_in_flight,
        "oldest": deliverer.oldest,
        "last_error": deliverer.last_error,
        "last_error_at": deliverer.last_error_at,
        "requests": requests,
        "request_seconds": seconds,
    }
