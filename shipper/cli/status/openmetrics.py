"""The status as OpenMetrics text (https://openmetrics.io), which Prometheus and its textfile collector read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...delivery.latency import BUCKETS_SECONDS
from ...report import BackendStatus, Status
from .diagnosis import diagnose, severity

STATES = (
    "idle", "delivering", "retrying", "unauthorised", "refused", "paused", "starting", "stopped", "not configured",
)  # fmt: skip

Sample = tuple[str, Mapping[str, str], float]
"""Suffix of the metric's name, labels, value."""


App = tuple[Mapping[str, str], Status]
"""The labels of an app, ``app`` and ``user``, and its status."""


def openmetrics(found: Iterable[tuple[str, Status]], now: float | None = None) -> str:
    """The metrics of all apps, each metric with its samples together; ends with ``# EOF``.

    ``found``: for each app its user's name and its status.
    """
    now = time.time() if now is None else now
    lines: list[str] = []
    apps: list[App] = [({"app": status.app, "user": user}, status) for user, status in found]
    for name, kind, text, samples in _metrics(apps, now):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{suffix}{_labels(labels)} {_number(value)}" for suffix, labels, value in samples]
    return "\n".join([*lines, "# EOF", ""])


def _metrics(apps: Sequence[App], now: float) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    yield (
        "shipper_up", "gauge", "1 while a shipper process runs.",
        [("", app, float(each.running)) for app, each in apps],
    )  # fmt: skip
    yield (
        "shipper_health", "gauge", "0 healthy, 1 degraded, 2 failing, 3 not running.",
        [("", app, severity(diagnose(each, now))) for app, each in apps],
    )  # fmt: skip
    yield (
        "shipper_status_age_seconds", "gauge", "Seconds since the shipper process wrote its status.",
        [("", app, max(0.0, now - each.updated)) for app, each in apps if each.updated is not None],
    )  # fmt: skip
    yield (
        "shipper_events_emitted", "counter", "Events that the application logged.",
        [("_total", app, each.journaled + each.in_memory + each.total_dropped) for app, each in apps],
    )  # fmt: skip
    yield (
        "shipper_events_journaled", "counter", "Events that came into the journal, by level.",
        [("_total", {**app, "level": level}, n) for app, each in apps for level, n in each.levels.items()],
    )  # fmt: skip
    yield (
        "shipper_events_dropped", "counter", "Events lost before they were in the journal.",
        [("_total", {**app, **reason}, n) for app, each in apps for reason, n in _drops(each.dropped)],
    )  # fmt: skip
    yield (
        "shipper_events_in_memory", "gauge", "Events that are not in the journal yet.",
        [("", app, each.in_memory) for app, each in apps],
    )  # fmt: skip
    yield (
        "shipper_journal_bytes", "gauge", "Bytes that the journal takes on disk.",
        [("", app, each.journal_bytes) for app, each in apps],
    )  # fmt: skip
    yield (
        "shipper_journal_quota_bytes", "gauge", "Bytes that the journal may take.",
        [("", app, each.quota) for app, each in apps if each.quota > 0],
    )  # fmt: skip
    yield from _backend_metrics([(app, backend) for app, each in apps for backend in each.backends])


def _backend_metrics(
    backends: Sequence[tuple[Mapping[str, str], BackendStatus]],
) -> Iterator[tuple[str, str, str, Iterable[Sample]]]:
    def numbers(suffix: str, field: str) -> list[Sample]:
        return [(suffix, _of(app, each), float(getattr(each, field))) for app, each in backends]

    yield "shipper_backend_events_delivered", "counter", "Events that were delivered.", numbers("_total", "delivered")
    yield "shipper_backend_events_filtered", "counter", "Events below its level.", numbers("_total", "filtered")
    yield "shipper_backend_events_dead", "counter", "Events that it rejected.", numbers("_total", "dead")
    yield (
        "shipper_backend_events_dropped", "counter", "Events lost after they were in the journal.",
        [("_total", {**_of(app, each), **reason}, n) for app, each in backends for reason, n in _drops(each.dropped)],
    )  # fmt: skip
    yield "shipper_backend_events_left", "gauge", "Events that wait in the journal.", numbers("", "left")
    yield "shipper_backend_dead_letters", "gauge", "Dead letters that are kept.", numbers("", "dead_letters")
    yield "shipper_backend_lag_seconds", "gauge", "Age of the oldest event that waits.", numbers("", "lag")
    yield "shipper_backend_retries", "counter", "Waits before sending again.", numbers("_total", "retried")
    yield "shipper_backend_in_flight", "gauge", "The most requests at the same time now.", numbers("", "in_flight")
    yield (
        "shipper_backend_state", "gauge", "1 for the state that the backend is in.",
        [
            ("", {**_of(app, each), "state": state}, float(each.state == state))
            for app, each in backends
            for state in dict.fromkeys((*STATES, each.state))
        ],
    )  # fmt: skip
    yield (
        "shipper_backend_sent_bytes", "counter", "Bytes of the events in requests, since the process started.",
        numbers("_total", "sent_bytes"),
    )  # fmt: skip
    yield (
        "shipper_backend_request_seconds", "histogram", "Duration of requests, since the process started.",
        [sample for app, each in backends for sample in _histogram(_of(app, each), each)],
    )  # fmt: skip


def _of(app: Mapping[str, str], backend: BackendStatus) -> dict[str, str]:
    return {**app, "backend": backend.name}


def _drops(drops: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[dict[str, str], int]]:
    for reason, levels in drops.items():
        for level, number in levels.items():
            yield {"reason": reason, "level": level}, number


def _histogram(labels: Mapping[str, str], backend: BackendStatus) -> Iterator[Sample]:
    if len(backend.requests) != len(BUCKETS_SECONDS) + 1:
        return
    below = 0
    for bound, number in zip((*map(str, BUCKETS_SECONDS), "+Inf"), backend.requests, strict=True):
        below += number
        yield "_bucket", {**labels, "le": bound}, below
    yield "_count", labels, below
    yield "_sum", labels, backend.request_seconds


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
