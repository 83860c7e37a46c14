"""What does a log call cost the application: at a steady rate, in a burst, and when things go wrong?"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .children import ask, folder, median_if_any
from .peers import PEERS, POSTED
from .rows import Plan, Row
from .servers import Nginx, black_hole

RATE = 1000.0
SLOW = {"requests": 2000}  # records in a burst of a peer that waits for each answer
STORM_RATE = 2000.0
FLOORS = ("nothing", "bare: format, pack, write", POSTED)
PACED = [*FLOORS, *(name for name in PEERS if name not in FLOORS)]


def cost(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """CPU of the whole application process per record, at `RATE` records a second."""
    question = f"CPU of the application per record, {RATE:,.0f} records/s"
    seen: dict[str, list[float]] = {name: [] for name in PACED}
    ratios: dict[str, list[float]] = {name: [] for name in PACED}
    errors: dict[str, str] = {}
    for _ in range(plan.rounds):
        for name in PACED:
            told = ask("paced", peer=name, url=nginx.good, rate=RATE, seconds=plan.seconds(5.0), timeout=60)
            if "cpu" in told:
                seen[name].append(told["cpu"])
            errors[name] = told.get("error", "")
        for name in PACED:  # in the same round, where the machine is equally loaded
            if seen[name] and seen["nothing"]:
                ratios[name].append(seen[name][-1] / seen["nothing"][-1])
    for name in PACED:
        promised = name == "shipper"
        ratio = median_if_any(ratios[name])
        yield Row(
            question, name, median_if_any(seen[name]), "µs", ratio,
            "≤ 1.35 × nothing" if promised else "", bool(ratio and ratio <= 1.35) if promised else None, errors[name],
            {"rounds": seen[name]},
        )  # fmt: skip


def burst(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """CPU per record and the times of calls in a burst, from one and from four threads."""
    for threads in (1, 4):
        yield from _burst(plan, nginx, threads)


def _burst(plan: Plan, nginx: Nginx, threads: int) -> Iterator[Row]:
    records = plan.count(100_000, 2000)
    of = f"{records:,} records, {threads} thread{'s' if threads > 1 else ''}"
    question = f"A burst of {of}: CPU of the application per record"
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in PEERS}
    errors: dict[str, str] = {}
    for _ in range(max(1, plan.rounds * 3 // 5)):
        for name in PEERS:
            count = min(records, SLOW.get(name, records))
            told = ask("burst", peer=name, url=nginx.good, records=count, threads=threads, timeout=120)
            if "cpu" in told:
                seen[name].append(told)
            errors[name] = told.get("error", "")
    floor = _median_of(seen["nothing"], "cpu")
    rivals = [_median_of(seen[name], "cpu") for name in PEERS if name not in (*FLOORS, "shipper")]
    best = min((value for value in rivals if value is not None), default=None)
    for name in PEERS:
        value = _median_of(seen[name], "cpu")
        dropped = max((one["dropped"] for one in seen[name] if one["dropped"] is not None), default=None)
        promised = name == "shipper"
        met = bool(value is not None and best is not None and value <= best and dropped == 0) if promised else None
        more = {
            key: _median_of(seen[name], key) for key in ("mean", "p50", "p99", "p999", "max", "logged_in", "settled_in")
        }
        note = errors[name] or _calls(more, dropped, min(records, SLOW.get(name, records)))
        target = "≤ every peer, 0 dropped" if promised else ""
        ratio = value / floor if value is not None and floor else None
        yield Row(
            question, name, value, "µs", ratio, target, met, note, {**more, "dropped": dropped, "threads": threads}
        )


def _calls(more: dict[str, Any], dropped: int | None, records: int) -> str:
    if more["mean"] is None:
        return ""
    call = " / ".join(f"{more[key]:,.0f}" for key in ("mean", "p99", "p999", "max"))
    lost = "" if not dropped else f", {dropped:,} of {records:,} dropped"
    return f"call {call} µs (mean / p99 / p99.9 / max){lost}"


def _median_of(told: list[dict[str, Any]], key: str) -> float | None:
    values = [one[key] for one in told if one.get(key) is not None]
    return median_if_any(values)


def trouble(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """p99.9 of a logging call in normal operation and with each of several failures."""
    question = f"p99.9 of a logging call, {STORM_RATE:,.0f} records/s, while"
    seen: dict[str, list[dict[str, Any]]] = {}
    errors: dict[str, str] = {}
    with black_hole() as hole:
        cases: dict[str, dict[str, Any]] = {
            "all is well": {"trakerr": nginx.good, "jkool": nginx.good},
            "both backends answer 503": {"trakerr": nginx.bad, "jkool": nginx.bad},
            "both backends are black holes": {"trakerr": hole, "jkool": hole},
            "the shipper process is stopped": {"trakerr": nginx.good, "jkool": nginx.good, "stopped": True},
            "the disk is full": {"trakerr": nginx.good, "jkool": nginx.good, "full": True},
        }
        for _ in range(max(3, plan.rounds)):
            for name, case in cases.items():
                with _small_disk() if case.get("full") else contextlib.nullcontext() as disk:
                    if case.get("full") and disk is None:
                        errors[name] = "needs root, to mount a small tmpfs"
                        continue
                    options = case if disk is None else {**case, "spool": os.path.join(disk, "spool")}
                    told = ask("trouble", rate=STORM_RATE, seconds=plan.seconds(5.0), timeout=60, **options)
                if "p999" in told:
                    seen.setdefault(name, []).append(told)
                errors[name] = told.get("error", "")
    healthy = _median_of(seen.get("all is well", []), "p999")
    for name in errors:
        value = _median_of(seen.get(name, []), "p999")
        ratio = value / healthy if value is not None and healthy else None
        met = (
            bool(ratio is not None and value is not None and ratio <= 1.2 and value <= 1000) if seen.get(name) else None
        )
        more = {key: _median_of(seen.get(name, []), key) for key in ("p50", "p99", "max", "dropped")}
        note = errors[name] or f"median {more['p50']:.0f}, max {more['max']:,.0f} µs"
        yield Row(question, name, value, "µs", ratio, "≤ 1.2 × well, ≤ 1 ms", met, note, more)


@contextlib.contextmanager
def _small_disk() -> Iterator[str | None]:
    """Yield a folder on a nearly full file system; None without the right to mount one."""
    with folder() as place:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "bench", place], capture_output=True, check=False
        )
        if mounted.returncode:
            yield None
            return
        try:
            with contextlib.suppress(OSError), open(Path(place, "filler"), "wb", buffering=0) as file:
                for _ in range(31):  # 128 KiB stay free: enough for the spool's small files, not for the journal
                    file.write(b"\0" * 61440)
            yield place
        finally:
            subprocess.run(["umount", "-l", place], capture_output=True, check=False)
