"""How an app's shipper does: read from its spool by any process of the same user, also when no shipper process runs.

The source is `status.json`, which the shipper process writes (`process/status_writer.py`), then the lock file, the
cursors' files and the sizes of the segments. A file that is missing or damaged, or was written by another release,
leaves zeros; nothing here raises because of what is in a file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config.state_folder import default_folder
from .journal.cursor_files import saved_positions
from .journal.segments import segments, size_on_disk
from .spool.files import get_dict, get_int, read_json
from .spool.layout import Spool
from .spool.lock import running
from .transport.drops import Drops


@dataclass(frozen=True)
class BackendStatus:
    """One backend. All counts are of events, since the backend was first configured."""

    name: str
    state: str = "unknown"
    """idle, delivering, retrying, unauthorised, starting, or "not configured"; "stopped" when no process runs."""
    delivered: int = 0
    filtered: int = 0
    """Below the backend's level, or routed to others."""
    dead: int = 0
    """Rejected by the backend: in `dead/<name>.ndjson`."""
    dropped: Drops = field(default_factory=dict)
    """Lost after they were in the journal, by reason and level: quota, incomplete."""
    left: int = 0
    """In the journal, and not settled yet."""
    retried: int = 0
    """Waits before sending again, since the process started."""
    in_flight: int = 0
    """The most requests at the same time now."""
    lag: float = 0.0
    """Age of the oldest event that is left, in seconds."""
    last_error: str = ""


@dataclass(frozen=True)
class Status:
    """All of an app. `emitted = journaled + dropped`, and for each backend
    `journaled = delivered + filtered + dead + dropped + left`."""

    app: str
    spool: str
    """Path of the spool."""
    running: bool
    """Whether a shipper process runs."""
    pid: int | None
    started: float | None
    """When the process started, seconds since the epoch."""
    updated: float | None
    """When the process wrote its status, seconds since the epoch."""
    journaled: int
    """Events that came from the applications, since the spool was made."""
    doubles: int
    """Events that came once more: a process was killed while it emptied its overflow."""
    dropped: Drops
    """Lost before they were in the journal, by reason and level."""
    missing: int
    """Sequence numbers that never came: dropped, or not accepted yet when their process was killed."""
    corrupt: int
    """Stretches of damaged bytes; they are kept in `damaged/`."""
    levels: Mapping[str, int]
    """Level → events that came."""
    journal_bytes: int
    segments: int
    trouble: str
    """The disk's last error, "" when it takes events."""
    backends: tuple[BackendStatus, ...]

    @property
    def left(self) -> int:
        """Events that are not settled at the backend which is furthest behind."""
        return max((backend.left for backend in self.backends), default=0)

    @property
    def total_dropped(self) -> int:
        return total(self.dropped)


@dataclass(frozen=True)
class Report:
    """What `stop()` returns."""

    flushed: bool
    """Whether all that this process logged is settled at every backend: delivered, filtered or a dead letter."""
    emitted: int
    """Events that this process logged."""
    dropped: Drops
    """Events that this process dropped, by reason and level."""
    status: Status
    waiting: int = 0
    """Events of this process that are not in the journal yet: in the pipe, or in its overflow."""

    @property
    def left(self) -> Mapping[str, int]:
        """Backend's name → events that are not settled there; the next start delivers them."""
        return {backend.name: backend.left + self.waiting for backend in self.status.backends}


_MAX_TIME = 1e12  # seconds since the epoch; a larger number is no time


def total(drops: Drops) -> int:
    """The number of events in drops."""
    return sum(sum(levels.values()) for levels in drops.values())


def _text(data: Mapping[str, Any], name: str, default: str = "") -> str:
    value = data.get(name)
    return value if isinstance(value, str) else default


def _time(data: Mapping[str, Any], name: str) -> float | None:
    value = data.get(name)
    return float(value) if isinstance(value, (int, float)) and abs(value) < _MAX_TIME else None


def _counts(data: Mapping[str, Any], name: str) -> dict[str, int]:
    found = get_dict(data, name)
    return {each: count for each in found if (count := get_int(found, each))}


def _drops(data: Mapping[str, Any]) -> Drops:
    found = get_dict(data, "dropped")
    return {reason: levels for reason in found if (levels := _counts(found, reason))}


def read_status(spool: Spool, app: str, data: Mapping[str, Any] | None = None) -> Status:
    """The status of a spool. ``data`` is the content of its `status.json`; None reads it."""
    data = (read_json(spool.status) or {}) if data is None else data
    holder = running(spool)
    ledger = get_dict(data, "ledger")
    journaled, doubles = get_int(ledger, "journaled"), get_int(ledger, "doubles")
    return Status(
        app=_text(data, "app", app),
        spool=spool.path,
        running=holder is not None,
        pid=(holder.pid or None) if holder else None,
        started=_time(data, "started"),
        updated=_time(data, "updated"),
        journaled=journaled,
        doubles=doubles,
        dropped=_drops(data),
        missing=get_int(ledger, "missing"),
        corrupt=get_int(ledger, "corrupt"),
        levels=_counts(ledger, "levels"),
        journal_bytes=_journal_bytes(spool),
        segments=_segments(spool),
        trouble=_text(get_dict(data, "journal"), "trouble"),
        backends=tuple(_backends(spool, data, journaled + doubles, holder is not None)),
    )


def _backends(spool: Spool, data: Mapping[str, Any], journaled: int, is_running: bool) -> list[BackendStatus]:
    known = {name: get_dict(get_dict(data, "backends"), name) for name in get_dict(data, "backends")}
    with contextlib.suppress(OSError):
        for name, saved in saved_positions(spool.cursors).items():
            # A process that is starting has not written yet which backends it has.
            known.setdefault(name, {**saved, "state": "starting" if is_running and not data else "not configured"})
    return [_backend(name, each, journaled, is_running) for name, each in sorted(known.items())]


def _backend(name: str, data: Mapping[str, Any], journaled: int, is_running: bool) -> BackendStatus:
    counts = _counts(data, "counts")
    oldest = _time(data, "oldest")
    base = get_int(data, "base")
    left = max(0, journaled - base - sum(counts.values())) if base >= 0 else 0
    state = _text(data, "state", "unknown")
    return BackendStatus(
        name=name,
        state=state if is_running or state == "not configured" else "stopped",
        delivered=get_int(counts, "delivered"),
        filtered=get_int(counts, "filtered"),
        dead=get_int(counts, "dead"),
        dropped=_drops(data),
        left=left,
        retried=get_int(data, "retried"),
        in_flight=get_int(data, "in_flight"),
        lag=max(0.0, time.time() - oldest) if left and oldest else 0.0,
        last_error=_text(data, "last_error"),
    )


def _journal_bytes(spool: Spool) -> int:
    try:
        return size_on_disk(spool.journal)
    except OSError:
        return 0


def _segments(spool: Spool) -> int:
    try:
        return len(segments(spool.journal))
    except OSError:
        return 0


def apps() -> list[str]:
    """The names of the apps that have a spool in the default place."""
    folder = os.path.dirname(default_folder("x"))
    try:
        return sorted(name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, "queue")))
    except OSError:
        return []
