"""How much memory do the shipper process and a worker take?"""

from __future__ import annotations

from collections.abc import Iterator

from .children import ask, median
from .rows import Plan, Row
from .servers import Nginx

MIB = 1024 * 1024


def memory(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    question = "RSS"
    urls = {"trakerr": nginx.good, "jkool": nginx.good}
    down = {"trakerr": nginx.bad, "jkool": nginx.bad}
    running = _most("deliver", urls=urls, events=plan.count(20_000), seconds=60.0)
    yield _row(question, "shipper process, running", running, 50)
    spooled = plan.count(1_000_000, 20_000)
    waiting = _most("deliver", urls=down, events=spooled, seconds=plan.seconds(20.0, 8.0))
    yield _row(question, f"... {spooled:,} events spooled, both backends down", waiting, 80)
    more = []
    for _ in range(max(3, plan.rounds)):
        told = [ask("worker_memory", peer=peer, urls=urls) for peer in ("plain", "shipper")]
        if all("rss" in one for one in told):
            more.append((told[1]["rss"] - told[0]["rss"]) / MIB)
    yield _row(question, "a worker, more than with plain logging", median(more) if more else None, 3)


def _most(question: str, **options: object) -> float | None:
    told = ask(question, **options)  # type: ignore[arg-type]
    return max((sample[2] for sample in told.get("samples", [])), default=0) / MIB or None


def _row(question: str, name: str, value: float | None, most: int) -> Row:
    return Row(question, name, value, "MiB", None, f"≤ {most} MiB", value is not None and value <= most)
