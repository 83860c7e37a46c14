"""How much memory do the shipper process and a worker take?"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .children import ask, end_shipper, environment, folder, median, median_if_any
from .peers import PACKED
from .rows import Plan, Row
from .servers import Nginx

MIB = 1024 * 1024
WORKER = (Path(__file__).parent / "worker.py").read_text()
BOUNDS = {"bare": 4.5, "FastAPI": 2.5}  # MiB of a worker beyond plain logging
LIBRARIES = (
    ("dataclasses", "inspect"),
    ("logging.handlers", "socket", "pickle"),
    ("msgpack", "datetime"),
    ("subprocess", "locale"),
    ("typing",),
    ("json", "zlib", "mmap", "fcntl", "pwd"),
)
"""Modules of others that shipper imports, in groups; each group is measured with the modules that it imports."""

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
    name = "a worker with this benchmark's imports, more than with plain logging"
    yield Row(question, name, median_if_any(more.pop("shipper")), "MiB")
    for peer, found in more.items():
        yield Row(question, f"... with {peer}", median_if_any(found), "MiB")


def workers(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """What a worker takes beyond one with plain logging, and how much of this is modules of others."""
    for application, bound in BOUNDS.items():
        question = f"RSS of a worker more than with plain logging, {application}"
        size, private, second = _sizes(plan, nginx, application)
        most = f"≤ {bound} MiB"
        yield Row(question, "all", size["shipper"] - size[""], "MiB", None, most, size["shipper"] - size[""] <= bound)
        *before, libraries = itertools.accumulate(LIBRARIES, lambda names, more: names + more)
        if application == "bare":
            for names, more in zip([(), *before], LIBRARIES, strict=True):
                took = size[",".join(names + more)] - size[",".join(names)]
                yield Row(question, f"... of it {', '.join(more)}", took, "MiB")
        else:
            yield Row(question, "... of it modules of others", size[",".join(libraries)] - size[""], "MiB")
        yield Row(question, "... of it shipper", size["shipper"] - size[",".join(libraries)], "MiB")
        yield Row(question, "not shared with other processes", private["shipper"] - private[""], "MiB")
        yield Row(question, "all, where the shipper process runs already", second - size[""], "MiB")


def _sizes(plan: Plan, nginx: Nginx, application: str) -> tuple[dict[str, float], dict[str, float], float]:
    """RSS and private memory by imported libraries; RSS of a worker that finds the shipper process running. In MiB."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(1 + max(3, plan.rounds)):  # the first round writes the bytecode and is not counted
        for names in ((), *itertools.accumulate(LIBRARIES, lambda names, more: names + more)):
            found.setdefault(",".join(names), []).extend(_workers(nginx, application, ",".join(names)))
        first, second = _workers(nginx, application, "shipper", "shipper")
        found.setdefault("shipper", []).append(first)
        found.setdefault("second", []).append(second)
    size = {name: median([rss for rss, _ in sizes[1:]]) for name, sizes in found.items()}
    private = {name: median([own for _, own in sizes[1:]]) for name, sizes in found.items()}
    return size, private, size["second"]


def _workers(nginx: Nginx, application: str, *libraries: str) -> list[tuple[float, float]]:
    """RSS and private memory, in MiB, of workers that run one after the other, one for each of ``libraries``."""
    with folder() as place:
        try:
            said = [
                subprocess.run(
                    [sys.executable, "-c", WORKER, place, nginx.good, application, each],
                    stdout=subprocess.PIPE,
                    env=environment(),
                    check=True,
                    timeout=60,
                ).stdout
                for each in libraries
            ]
        finally:
            end_shipper(place)
    return [(int(rss) / MIB, int(private) / MIB) for rss, private in map(bytes.split, said)]


def _most(question: str, **options: object) -> float | None:
    told = ask(question, **options)  # type: ignore[arg-type]
    return max((sample[2] for sample in told.get("samples", [])), default=0) / MIB or None


def _row(question: str, name: str, value: float | None, most: int) -> Row:
    return Row(question, name, value, "MiB", None, f"≤ {most} MiB", value is not None and value <= most)
