"""How much memory do the shipper process and a worker take?"""

from __future__ import annotations

from collections.abc import Iterator

from .children import ask, median_if_any
from .peers import PACKED
from .rows import Plan, Row
from .servers import Nginx

MIB = 1024 * 1024
BESIDE = (PACKED, "stdlib queue", "loguru", "OpenTelemetry", "sentry-sdk")


def memory(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    question = "RSS"
    urls = {"trakerr": nginx.good, "jkool": nginx.good}
    down = {"trakerr": nginx.bad, "jkool": nginx.bad}
    running = _most("deliver", urls=urls, events=plan.count(20_000), seconds=60.0)
    yield _row(question, "shipper process, running", running, 50)
    spooled = plan.count(1_000_000, 20_000)
    waiting = _most("deliver", urls=down, events=spooled, seconds=plan.seconds(20.0, 8.0))
    yield _row(question, f"... {spooled:,} events spooled, both backends down", waiting, 80)
    more: dict[str, list[float]] = {"shipper": [], **{name: [] for name in BESIDE}}
    for _ in range(max(3, plan.rounds)):
        plain = ask("worker_memory", peer="plain")
        for peer, found in more.items():
            told = ask("worker_memory", peer=peer, urls=urls, url=nginx.good)
            if "rss" in plain and "rss" in told:
                found.append((told["rss"] - plain["rss"]) / MIB)
    yield _row(question, "a worker, more than with plain logging", median_if_any(more.pop("shipper")), 3)
    for peer, found in more.items():
        yield Row(question, f"... with {peer}", median_if_any(found), "MiB")


def _most(question: str, **options: object) -> float | None:
    told = ask(question, **options)  # type: ignore[arg-type]
    return max((sample[2] for sample in told.get("samples", [])), default=0) / MIB or None


def _row(question: str, name: str, value: float | None, most: int) -> Row:
    return Row(question, name, value, "MiB", None, f"≤ {most} MiB", value is not None and value <= most)
