"""How an app's shipper does, read from its spool by anybody of its user: running or not, delivered, left, dropped."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from ._support.values import Values, field
from .config.state_folder import default_folder
from .journal.cursor_files import saved_positions
from .journal.segments import segments, size_on_disk
from .spool.files import get_dict, get_int, read_json
from .spool.layout import Spool
from .spool.lock import running
from .transport.drops import Drops


class BackendStatus(Values):
    """One backend. ``left`` events are in the journal and not settled; ``lag`` is the age of the oldest, in seconds."""

    name: str
    state: str = "unknown"  # idle, delivering, retrying, unauthorised; "stopped" when no process runs
    delivered: int = 0
    filtered: int = 0  # below the backend's level, or routed elsewhere
    dead: int = 0
    dropped: Drops = field(default_factory=dict)
    left: int = 0
    retried: int = 0  # waits before sending again, since the process started
    in_flight: int = 0
    lag: float = 0.0
    last_error: str = ""


class Status(Values):
    """All of an app. `emitted = journaled + dropped`, and per backend
    `journaled = delivered + filtered + dead + dropped + left`."""

    app: str
    spool: str
    running: bool
    pid: int | None
    started: float | None  # seconds since the epoch
    updated: float | None  # when the process wrote this
    journaled: int  # events taken over from the applications, since the spool was made
    doubles: int  # of them, those that came twice (a process was killed while it emptied its overflow)
    dropped: Drops  # before the journal: reason → level → count
    missing: int  # sequence numbers that never came: what was dropped, or had not been accepted when its process died
    corrupt: int  # stretches of damaged bytes, kept aside in `damaged/`
    levels: Mapping[str, int]
    journal_bytes: int
    segments: int
    trouble: str  # what the disk says, "" when all is well
    backends: tuple[BackendStatus, ...]

    @property
    def left(self) -> int:
        """Events that at least one backend still has to get."""
        return max((backend.left for backend in self.backends), default=0)

    @property
    def total_dropped(self) -> int:
        return total(self.dropped)


class Report(Values):
    """What `stop()` has to say. ``flushed``: everything that this process logged is settled at every backend."""

    flushed: bool
    emitted: int  # by this process
    dropped: Drops  # by this process
    status: Status
    waiting: int = 0  # events of this process that are not in the journal yet: in the pipe, or in its overflow

    @property
    def left(self) -> Mapping[str, int]:
        """Backend's name → events that it still has to get; the next start delivers them."""
        return {backend.name: backend.left + self.waiting for backend in self.status.backends}


def total(drops: Drops) -> int:
    return sum(sum(levels.values()) for levels in drops.values())


def _text(said: Mapping[str, Any], name: str, default: str = "") -> str:
    value = said.get(name)
    return value if isinstance(value, str) else default


def _time(said: Mapping[str, Any], name: str) -> float | None:
    value = said.get(name)
    return float(value) if isinstance(value, (int, float)) and abs(value) < _END_OF_TIME else None


def _counts(said: Mapping[str, Any], name: str) -> dict[str, int]:
    found = get_dict(said, name)
    return {each: count for each in found if (count := get_int(found, each))}


def _drops(said: Mapping[str, Any]) -> Drops:
    found = get_dict(said, "dropped")
    return {reason: levels for reason in found if (levels := _counts(found, reason))}


_END_OF_TIME = 1e12


def read_status(spool: Spool, app: str, said: Mapping[str, Any] | None = None) -> Status:
    """The status of a spool as its files tell it; all zeros where it never was in use, or they can't be read."""
    said = (read_json(spool.status) or {}) if said is None else said
    holder = running(spool)
    ledger = get_dict(said, "ledger")
    journaled, doubles = get_int(ledger, "journaled"), get_int(ledger, "doubles")
    return Status(
        app=_text(said, "app", app),
        spool=spool.path,
        running=holder is not None,
        pid=(holder.pid or None) if holder else None,
        started=_time(said, "started"),
        updated=_time(said, "updated"),
        journaled=journaled,
        doubles=doubles,
        dropped=_drops(said),
        missing=get_int(ledger, "missing"),
        corrupt=get_int(ledger, "corrupt"),
        levels=_counts(ledger, "levels"),
        journal_bytes=_journal_bytes(spool),
        segments=_segments(spool),
        trouble=_text(get_dict(said, "journal"), "trouble"),
        backends=tuple(_backends(spool, said, journaled + doubles, holder is not None)),
    )


def _backends(spool: Spool, said: Mapping[str, Any], came: int, is_running: bool) -> list[BackendStatus]:
    known = {name: get_dict(get_dict(said, "backends"), name) for name in get_dict(said, "backends")}
    with contextlib.suppress(OSError):
        for name, saved in saved_positions(spool.cursors).items():
            # A process that is just starting has not said yet what is configured.
            known.setdefault(name, {**saved, "state": "starting" if is_running and not said else "not configured"})
    return [_backend(name, each, came, is_running) for name, each in sorted(known.items())]


def _backend(name: str, said: Mapping[str, Any], came: int, is_running: bool) -> BackendStatus:
    counts = _counts(said, "counts")
    oldest = _time(said, "oldest")
    base = get_int(said, "base")
    left = max(0, came - base - sum(counts.values())) if base >= 0 else 0
    state = _text(said, "state", "unknown")
    return BackendStatus(
        name=name,
        state=state if is_running or state == "not configured" else "stopped",
        delivered=get_int(counts, "delivered"),
        filtered=get_int(counts, "filtered"),
        dead=get_int(counts, "dead"),
        dropped=_drops(said),
        left=left,
        retried=get_int(said, "retried"),
        in_flight=get_int(said, "in_flight"),
        lag=max(0.0, time.time() - oldest) if left and oldest else 0.0,
        last_error=_text(said, "last_error"),
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
