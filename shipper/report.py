"""How an app's shipper does: read from its spool by any process of the same user, also when no shipper process runs.

The source is `status.json`, which the shipper process writes (`process/status/status_writer.py`), then the lock file,
the cursors' files and the sizes of the segments. A file that is missing or damaged, or was written by another release,
leaves zeros; nothing here raises because of what is in a file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .config.state_folder import default_folder, usual_folder
from .journal.cursors.cursor_files import saved_positions
from .journal.segments import segments, size_on_disk
from .spool.controls import Controls, read_controls
from .spool.detached import detached_processes
from .spool.files import (
    get_counts,
    get_dict,
    get_drops,
    get_float,
    get_int,
    get_str,
    get_texts,
    get_time,
    get_times,
    open_file,
    read_json,
)
from .spool.layout import MAX_REPORTED, Spool
from .spool.lock import LockInfo, running
from .transport.drops import Drops
from .transport.memory.unjournaled import count_in_memory

MIN_CRASHES = 3  # in a row, that are a crash loop


@dataclass(frozen=True)
class BackendStatus:
    """One backend. All counts are of events, since the backend was first configured."""

    name: str
    state: str = "unknown"
    """idle, delivering, retrying, unauthorised, refused, paused, starting, or "not configured". When no process runs:
    "stopped", but unauthorised, refused and paused stay, because only a person can end them."""
    delivered: int = 0
    filtered: int = 0
    """Below the backend's level, or routed to others."""
    dead: int = 0
    """Rejected by the backend: in `dead/<name>.ndjson`."""
    dropped: Drops = field(default_factory=dict)
    """Lost after they were in the journal, by reason and level: quota, incomplete, refused_by_receiver."""
    left: int = 0
    """In the journal, and not settled yet."""
    retried: int = 0
    """Waits before sending again, since the process started."""
    in_flight: int = 0
    """The most requests at the same time now."""
    encoder: int = 0
    """Pid of the process that encodes its batches while there is a long backlog; 0: the shipper process does."""
    lag: float = 0.0
    """Age of the oldest event that is left, in seconds."""
    last_error: str = ""
    last_error_at: float | None = None
    """When that was, seconds since the epoch."""
    since: float | None = None
    """When the state began, seconds since the epoch."""
    next_try: float | None = None
    """When a backend that does not take events is tried again, seconds since the epoch."""
    url: str = ""
    """Where it sends to: scheme, host, port and path; "" when it does not speak HTTP."""
    level: int = 0
    """The lowest level that is sent there."""
    dropped_at: Mapping[str, float] = field(default_factory=dict)
    """Reason → when the last event was dropped for it, seconds since the epoch."""
    dead_letters: int = 0
    """Dead letters that are kept in `dead/<name>.ndjson` now."""
    requests: tuple[int, ...] = ()
    """Requests since the process started, by duration: see `delivery.latency.BUCKETS_SECONDS`."""
    request_seconds: float = 0.0
    """Seconds that these requests took together."""
    sent_bytes: int = 0
    """Bytes of the events in these requests, as they are in the journal."""


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
    """The shipper process's; None when none runs, or while it is starting."""
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
    """Files of the journal; ``journal_bytes`` is the size of all of them."""
    trouble: str
    """The disk's last error, "" when it takes events."""
    backends: tuple[BackendStatus, ...]
    ended: bool = False
    """Whether the last process ended by itself, and was not killed."""
    in_memory: int = 0
    """Events that are not in the journal yet: in the pipe, in overflows, or in mirrors."""
    dropped_at: Mapping[str, float] = field(default_factory=dict)
    """Reason → when the last event was dropped for it, seconds since the epoch."""
    crashes: int = 0
    """How often the shipper process has crashed in a row; 0 for fewer than three times."""
    crash_reason: str = ""
    """Why it crashed last; "" while ``crashes`` is 0."""
    quota: int = 0
    """Bytes that the journal may take, 0 when that is not known."""
    attached: bool | None = None
    """In the process that asks: whether records still reach the handler that `start()` attached; None: not known."""
    levels_set: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """Logger's name ("" is the handler) → the level that `shipper level` has set, and until when it is in force."""
    detached: Mapping[int, str] = field(default_factory=dict)
    """Pid → name of the logger, of processes that ship nothing because other code has removed their handler."""
    name_from: Mapping[str, str] = field(default_factory=dict)
    """What the app's name was derived from (`shipper apps` says it in words); empty while that is not known."""

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
    """Events of this process that are not in the journal yet: in the pipe, or in its overflow. Where that cannot be
    known (it has changed its user or root, and the pipe does not get empty): all that it has not dropped."""
    attached: bool | None = None
    """Whether records still reached the handler that `start()` had attached; None if it attached none."""
    dead: Mapping[str, int] = field(default_factory=dict)
    """Backend's name → events of the app that became dead letters there since `start()`."""

    @property
    def delivered(self) -> bool:
        """Whether `flushed` means delivered: nothing was dropped, or became a dead letter, since `start()`."""
        return self.flushed and not self.dropped and not any(self.dead.values())

    @property
    def left(self) -> Mapping[str, int]:
        """Backend's name → events that are not settled there; the next start delivers them."""
        return {backend.name: backend.left + self.waiting for backend in self.status.backends}


def total(drops: Drops) -> int:
    """The number of events in drops."""
    return sum(sum(levels.values()) for levels in drops.values())


def read_status(spool: Spool, app: str, data: Mapping[str, Any] | None = None) -> Status:
    """The status of a spool. ``data`` is the content of its `status.json`; None reads it."""
    data = (read_json(spool.status) or {}) if data is None else data
    holder, controls = running(spool), read_controls(spool)
    ledger = get_dict(data, "ledger")
    journaled, doubles = get_int(ledger, "journaled"), get_int(ledger, "doubles")
    return Status(
        app=get_str(data, "app") or app,
        spool=spool.path,
        running=holder is not None,
        pid=(holder.pid or None) if holder else None,
        started=get_time(data, "started"),
        updated=_updated(spool, get_time(data, "updated")),
        journaled=journaled,
        doubles=doubles,
        dropped=get_drops(data),
        missing=get_int(ledger, "missing"),
        corrupt=get_int(ledger, "corrupt"),
        levels=get_counts(ledger, "levels"),
        journal_bytes=_journal_bytes(spool),
        segments=_segments(spool),
        trouble=get_str(get_dict(data, "journal"), "trouble"),
        backends=tuple(_backends(spool, _with_pauses(data, controls, holder), journaled + doubles, holder is not None)),
        levels_set=_levels_set(controls),
        ended=data.get("ended") is True,
        quota=get_int(get_dict(data, "journal"), "quota"),
        in_memory=_in_memory(spool, get_counts(ledger, "reached")),
        dropped_at=get_times(data, "dropped_at"),
        detached=detached_processes(spool),
        name_from=get_texts(data, "name_from"),
        **_crashes(spool),
    )


def _with_pauses(data: Mapping[str, Any], controls: Controls, holder: LockInfo | None) -> Mapping[str, Any]:
    """The content of `status.json`, with the backends that were paused or resumed since its process has ended."""
    if holder is not None:
        return data
    backends = {name: dict(get_dict(get_dict(data, "backends"), name)) for name in get_dict(data, "backends")}
    for name, backend in backends.items():
        if name in controls.paused:
            backend.update(state="paused", since=controls.paused[name])
        elif backend.get("state") == "paused":
            backend["state"] = "stopped"
    return {**data, "backends": backends}


def _levels_set(controls: Controls) -> dict[str, tuple[str, float]]:
    now = time.time()
    in_force = controls.levels_at(now)
    return {name: (logging.getLevelName(level), controls.levels[name][1]) for name, level in in_force.items()}


def _updated(spool: Spool, written: float | None) -> float | None:
    """When the process wrote the status, or touched the file because nothing had changed."""
    try:
        return None if written is None else max(written, os.stat(spool.status).st_mtime)
    except OSError:
        return written


def _in_memory(spool: Spool, journaled: Mapping[str, int]) -> int:
    is_complete = len(journaled) < MAX_REPORTED
    return count_in_memory((spool.overflow, spool.overflow_on_disk), journaled, is_complete=is_complete)


def _crashes(spool: Spool) -> dict[str, Any]:
    """The fields about a crash loop; a single crash is none."""
    data = read_json(spool.crash) or {}
    count = get_int(data, "count")
    return {"crashes": count, "crash_reason": get_str(data, "reason")} if count >= MIN_CRASHES else {}


def _backends(spool: Spool, data: Mapping[str, Any], journaled: int, is_running: bool) -> list[BackendStatus]:
    known = {name: get_dict(get_dict(data, "backends"), name) for name in get_dict(data, "backends")}
    # A process that is starting has not written yet which backends it has; one that never started says nothing of them.
    state = "not configured" if known else "starting" if is_running else "stopped"
    with contextlib.suppress(OSError):
        for name, saved in saved_positions(spool.cursors).items():
            known.setdefault(name, {**saved, "state": state})
    return [_backend(spool, name, each, journaled, is_running) for name, each in sorted(known.items())]


def _backend(spool: Spool, name: str, data: Mapping[str, Any], journaled: int, is_running: bool) -> BackendStatus:
    counts = get_counts(data, "counts")
    oldest, since = get_time(data, "oldest"), get_time(data, "since")
    base = get_int(data, "base")
    left = max(0, journaled - base - sum(counts.values())) if base >= 0 else 0
    state = get_str(data, "state") or "unknown"
    if state == "paused" and oldest is None:  # nothing was left when the pause began
        oldest = since
    return BackendStatus(
        name=name,
        state=state if is_running or state in _LASTING_STATES else "stopped",
        delivered=get_int(counts, "delivered"),
        filtered=get_int(counts, "filtered"),
        dead=get_int(counts, "dead"),
        dropped=get_drops(data),
        left=left,
        retried=get_int(data, "retried"),
        in_flight=get_int(data, "in_flight"),
        encoder=get_int(data, "encoder"),
        lag=max(0.0, time.time() - oldest) if left and oldest else 0.0,
        last_error=get_str(data, "last_error"),
        last_error_at=get_time(data, "last_error_at"),
        since=since,
        next_try=get_time(data, "next_try"),
        url=get_str(data, "url"),
        level=get_int(data, "level"),
        dropped_at=get_times(data, "dropped_at"),
        dead_letters=_dead_letters(spool, name),
        requests=_requests(data),
        request_seconds=get_float(data, "request_seconds"),
        sent_bytes=get_int(data, "sent_bytes"),
    )


_LASTING_STATES = ("not configured", "unauthorised", "refused", "paused")


def _requests(data: Mapping[str, Any]) -> tuple[int, ...]:
    value = data.get("requests")
    is_valid = isinstance(value, list) and all(isinstance(each, int) and each >= 0 for each in value)
    return tuple(value) if is_valid else ()  # type: ignore[arg-type]


def _dead_letters(spool: Spool, name: str) -> int:
    """The lines in a backend's files of dead letters, see `delivery.dead.store`."""
    count = 0
    for suffix in (".ndjson.kept", ".ndjson.taken", ".ndjson.1", ".ndjson"):
        with contextlib.suppress(OSError), open(open_file(f"{spool.dead}/{name}{suffix}", os.O_RDONLY), "rb") as file:
            while chunk := file.read(1 << 20):
                count += chunk.count(b"\n")
    return count


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
    folders = {os.path.dirname(default_folder("")), os.path.dirname(usual_folder(""))}
    found: set[str] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            found.update(name for name in os.listdir(folder) if os.path.exists(os.path.join(folder, name, "queue")))
    return sorted(found)
