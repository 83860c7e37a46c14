"""What several statuses show together: rates, and how long requests take at present."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...delivery.latency import BUCKETS_SECONDS
from ...report import BackendStatus, Status

KEPT = 60  # samples of each backend
RECENT = 10  # intervals between samples that a rate is computed over


@dataclass(frozen=True)
class Row:
    """One backend of one app, now. Rates are per second, over the last `RECENT` intervals between samples."""

    app: str
    backend: str
    state: str
    came_in: float = 0.0
    delivered: float = 0.0
    bytes_sent: float = 0.0
    left: int = 0
    lag: float = 0.0
    in_flight: int = 0
    retried: int = 0
    dead: int = 0
    median: float | None = None
    """Seconds that half of the last requests took at most; None when there were none."""
    slowest: float | None = None
    """Seconds that 95 % of the last requests took at most; None when there were none."""
    history: Sequence[float] = ()
    """Deliveries per second, one for each sample, the newest last."""


@dataclass
class _Series:
    samples: deque[tuple[float, Status, BackendStatus]] = field(default_factory=lambda: deque(maxlen=KEPT))


class Rates:
    """Remembers the last samples of each backend."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = {}

    def add(self, statuses: Sequence[Status], now: float) -> list[Row]:
        """Take a sample of all apps at a time (seconds, monotonic); a row for each backend."""
        rows = []
        for status in statuses:
            for backend in status.backends or (BackendStatus("-", state="stopped"),):
                series = self._series.setdefault((status.spool, backend.name), _Series())
                series.samples.append((now, status, backend))
                rows.append(_row(list(series.samples)))
        return rows


def _row(samples: list[tuple[float, Status, BackendStatus]]) -> Row:
    _, status, backend = samples[-1]
    recent = samples[-RECENT - 1 :]
    began, first, then = recent[0]
    seconds = samples[-1][0] - began
    requests = _difference(backend.requests, then.requests)
    return Row(
        app=status.app,
        backend=backend.name,
        state=backend.state,
        came_in=_rate(status.journaled - first.journaled, seconds),
        delivered=_rate(backend.delivered - then.delivered, seconds),
        bytes_sent=_rate(backend.sent_bytes - then.sent_bytes, seconds),
        left=backend.left,
        lag=backend.lag if backend.left else 0.0,
        in_flight=backend.in_flight if status.running else 0,
        retried=backend.retried,
        dead=backend.dead,
        median=quantile(requests, 0.5),
        slowest=quantile(requests, 0.95),
        history=[
            _rate(after[2].delivered - before[2].delivered, after[0] - before[0])
            for before, after in itertools.pairwise(samples)
        ],
    )


def _rate(more: int, seconds: float) -> float:
    return max(more, 0) / seconds if seconds > 0 else 0.0  # negative when a new process counts from 0


def _difference(now: Sequence[int], then: Sequence[int]) -> list[int]:
    if len(now) != len(then) or sum(now) < sum(then):
        return list(now)
    return [after - before for after, before in zip(now, then, strict=True)]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds that this ``share`` of requests took at most, estimated from a histogram; None without requests."""
    wanted, below, lower = sum(counts) * share, 0, 0.0
    if not wanted:
        return None
    for count, upper in zip(counts, (*BUCKETS_SECONDS, BUCKETS_SECONDS[-1]), strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below, lower = below + count, upper
    return BUCKETS_SECONDS[-1]
