"""Writes `status.json`: the state of the process, for the application and for commands.

Read by `shipper.report`. `flush` reads it, too, where the file of `spool/progress.py` can't be used: ``marks`` has the
marks that processes put into the queue, each as [number, segment, offset], and a flush ends when the ``position`` of
every backend that is not paused has passed its mark. While nothing changes, the file is only touched: its time is the
last sign of life.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...config.settings import Settings
from ...journal.account import Account
from ...spool.files import get_dict, get_drops, get_times, read_json, write_atomically
from ...transport.drops import Drops
from ...transport.memory.orphans import living_drops
from ..deliveries import Deliveries
from ..ingest.intake import Intake
from .flushes import Flushes
from .loss_times import LossTimes

if TYPE_CHECKING:
    from ...delivery.deliverer import Deliverer

FLUSH_SECONDS = 0.02  # between two writes while a process waits for one
CHANGE_SECONDS = 0.2  # between two writes when something has changed
PAUSED = "paused"  # the state of a backend, in place of its health
HEARTBEAT_SECONDS = 0.9  # after which an unchanged file is touched; below the second at which the main thread wakes


class StatusWriter:
    """Used by the main thread of the shipper process."""

    def __init__(
        self,
        path: str,
        account: Account,
        intake: Intake,
        deliveries: Deliveries,
        flushes: Flushes,
        *,
        overflows: Sequence[str],
    ) -> None:
        self._path = path
        self._flushes = flushes
        self._account = account
        self._intake = intake
        self._deliveries = deliveries
        self._overflows = overflows
        self._started = time.time()
        self._losses = _loss_times(path)
        self._backend_losses: dict[str, LossTimes] = {}
        self._digest_of: tuple[Settings | None, str] = (None, "")
        self._written: dict[str, Any] = {}
        self._written_at = float("-inf")
        self._identity: object = None
        self._is_pending = False  # something may have changed since the last write

    def write_if_due(self) -> None:
        """Write the file when it is time to. Called whenever something may have changed."""
        now = time.monotonic()
        if now - self._written_at < self._pause():
            self._is_pending = True
            return
        self._is_pending = False
        state = self._state()
        is_heartbeat_due = now - self._written_at >= HEARTBEAT_SECONDS
        if state != self._written or (is_heartbeat_due and not self._touch(now)):
            self._write(state, last=False)

    def seconds_until_due(self) -> float:
        """Return in how many seconds to call `write_if_due` again for a change that waits; infinity without one."""
        return max(0.0, self._written_at + self._pause() - time.monotonic()) if self._is_pending else math.inf

    def _pause(self) -> float:
        return FLUSH_SECONDS if self._flushes.is_status_due else CHANGE_SECONDS

    def write(self, *, last: bool) -> None:
        """Write the file now. ``last``: the process ends."""
        self._write(self._state(), last=last)

    def _touch(self, now: float) -> bool:
        """Renew the time of the file; False when it is not the one that was written, or can't be touched."""
        try:
            if _identity(self._path) != self._identity:
                return False
            os.utime(self._path)
            self._identity = _identity(self._path)
        except OSError:
            return False
        self._written_at = now
        return True

    def _write(self, state: dict[str, Any], *, last: bool) -> None:
        self._written, self._written_at = state, time.monotonic()
        with contextlib.suppress(OSError):
            write_atomically(self._path, {**state, "updated": time.time(), "ended": last})
            self._identity = _identity(self._path)
            backends = [each for each in state["backends"].values() if each["state"] != PAUSED]
            self._flushes.status_written(state["marks"], [each["position"] for each in backends])

    def _state(self) -> dict[str, Any]:
        account = self._account
        load = self._deliveries.load
        return {
            "app": self._deliveries.settings.app,
            "name_from": dict(self._deliveries.settings.name_from),
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
            "journal": {
                "trouble": self._intake.trouble,
                "full": self._intake.full.is_set(),
                "quota": self._deliveries.settings.spooling.quota,
            },
            "writers": not self._intake.eof.is_set(),
            "load": load.latest if load is not None else None,
        }

    def _digest(self) -> str:
        settings, digest = self._digest_of
        if settings is not self._deliveries.settings:  # only then: it took a tenth of an idle process's work
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
            **progress_of(deliverer),
            "url": url,
            "level": level,
            "takes_all": deliverer.name not in self._deliveries.settings.joined,
            "encoder": self._deliveries.encoder_pid(deliverer.name),
            "dropped_at": losses.update(deliverer.progress.dropped),
        }


def _identity(path: str) -> object:
    """Return values that change when another process writes the file. OSError when there is no file."""
    found = os.stat(path, follow_symlinks=False)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _loss_times(path: str, backend: str = "") -> LossTimes:
    """Return what the last process wrote about losses of one backend, or about those before the journal."""
    said = read_json(path) or {}
    if backend:
        said = dict(get_dict(get_dict(said, "backends"), backend))
    return LossTimes(get_drops(said), get_times(said, "dropped_at"))


def progress_of(deliverer: Deliverer) -> dict[str, Any]:
    """Return the state of a backend as `status.json` has it."""
    progress = deliverer.progress
    requests, seconds = deliverer.latency.snapshot()
    health, paused_since = deliverer.health, deliverer.pause.since
    return {
        "state": health.state if paused_since is None else PAUSED,
        "since": health.since if paused_since is None else paused_since,
        "next_try": health.next_try if paused_since is None else None,
        "position": progress.durable,
        "base": progress.base,
        "counts": progress.counts,
        "dropped": progress.dropped,
        "settled": progress.settled,
        "retried": health.retried,
        "in_flight": deliverer.requests_in_flight,
        "oldest": health.oldest,
        "last_error": health.last_error,
        "last_error_at": health.last_error_at,
        "requests": requests,
        "request_seconds": seconds,
        "sent_bytes": deliverer.latency.sent_bytes,
    }
