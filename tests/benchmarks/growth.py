"""How does the cost grow with the number of workers, the size of a record and the bytes in the spool?"""

from __future__ import annotations

from collections.abc import Iterator

from .children import ask, median, median_if_any
from .rows import Plan, Row
from .servers import Nginx

WORKERS = (1, 2, 4, 8, 16, 32)
SIZES = (100, 1_000, 10_000, 50_000, 200_000)
SPOOLED = (0, 10_000_000, 500_000_000, 2_000_000_000)


def growth(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    urls = {"trakerr": nginx.bad, "jkool": nginx.bad}
    yield from _workers(plan, urls)
    yield from _sizes(plan, urls)
    yield from _spooled(plan, urls)


def _workers(plan: Plan, urls: dict[str, str]) -> Iterator[Row]:
    question = "CPU per record in so many workers that log at the same time"
    seen: dict[int, list[float]] = {}
    dropped = 0
    for _ in range(plan.rounds):
        for count in WORKERS:
            told = ask("workers", urls=urls, workers=count, records=plan.count(32_000, 6400), pause=0.005)
            if "cpu" in told:
                seen.setdefault(count, []).append(told["cpu"])
                dropped += told["dropped"]
    first = median(seen.get(1, []))
    for count in WORKERS:
        value = median_if_any(seen.get(count, []))
        ratio = value / first if value else None
        met = None if ratio is None else ratio <= 1.2
        yield Row(question, f"{count} worker{'s' if count > 1 else ''}", value, "µs", ratio, "flat within 20 %", met)
    yield Row(question, "dropped, all together", dropped, "", None, "0", dropped == 0)


def _sizes(plan: Plan, urls: dict[str, str]) -> Iterator[Row]:
    question = "CPU per record by the size of its message"
    for size in SIZES:
        values, dropped = [], 0
        for _ in range(max(1, plan.rounds // 2)):
            records = max(100, min(plan.count(10_000), 20_000_000 // size))
            told = ask("workers", urls=urls, workers=1, records=records, size=size, pause=0.02)
            if "cpu" in told:
                values.append(told["cpu"])
                dropped += told["dropped"]
        value = median_if_any(values)
        note = (
            "" if value is None else f"{value / size * 1000:.1f} µs a kB" + (f", {dropped} dropped" if dropped else "")
        )
        yield Row(question, f"{size:,} bytes", value, "µs", note=note, more={"bytes": size})


def _spooled(plan: Plan, urls: dict[str, str]) -> Iterator[Row]:
    question = "start() with a journal that is not empty"
    empty = 0.0
    for size in SPOOLED:
        if size * plan.scale > 0 or size == 0:
            told = [
                ask("start_and_stop", urls=urls, bytes=int(size * plan.scale) or None)
                for _ in range(max(1, plan.rounds // 2))
            ]
            start = median([one["start"] for one in told if "start" in one])
            running = median([one["running"] for one in told if "running" in one])
            empty = empty or running
            met = running <= empty + 100 if size else None
            target = "as empty, ± 100 ms" if size else ""
            name = f"{size * plan.scale / 1e6:,.0f} MB" if size else "empty"
            note = f"start() returns after {start:.0f} ms"
            yield Row(question, f"{name}: all parts at work", running, "ms", None, target, met, note)
