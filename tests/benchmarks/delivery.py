"""How many events a second reach the backends: one request each, near and far, and in batches?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .children import ask, median_if_any
from .rows import Plan, Row
from .servers import Nginx, delayed

BOTH = ("trakerr", "jkool")
ROUND_TRIP = 0.05  # seconds
WINDOW = 3.0  # seconds in which answers are counted
SETTLED = 5.0  # seconds until the number of requests in flight is stable


def singles(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """One event a request, to both backends on this machine; the shipper process has one core."""
    events = plan.count(20_000)
    question = f"One event a request to both backends, backlog of {events:,}, next door, one core"
    rates: list[float] = []
    costs: list[float] = []
    for _ in range(plan.rounds):
        urls = dict.fromkeys(BOTH, nginx.good)
        asked = nginx.requests()
        told = ask("deliver", urls=urls, events=events, seconds=120.0, one_core=True)
        asked = nginx.requests() - asked
        speed = speed_of(told, events)
        if speed is not None:
            rates.append(speed["rate"])
            costs.append(speed["cpu"] / 2 * 1e6)
        if told.get("samples") and asked < 2 * events:
            yield Row(question, "requests that nginx counted", asked, "", met=False, note="too few")
    rate = median_if_any(rates)
    cpu = median_if_any(costs)
    whole = "" if not cpu else f"a core that nobody else uses would do {1e6 / 2 / cpu:,.0f}/s"
    yield Row(question, "events/s to both", rate, "/s", None, "≥ 1,500/s", rate is not None and rate >= 1500, whole)
    reached = cpu is not None and cpu <= 330
    yield Row(question, "CPU of the shipper process a request", cpu, "µs", None, "≤ 330 µs", reached)
    floor = median_if_any([bare for _ in range(plan.rounds) for bare in _bare(plan, nginx)])
    ratio = cpu / floor if cpu and floor else None
    name = "urllib3 alone with the body ready, CPU a request"
    yield Row(question, name, floor, "µs", ratio, note="× is shipper's against it")


def _bare(plan: Plan, nginx: Nginx) -> list[float]:
    told = ask("bare", url=nginx.good, requests=plan.count(5000), core=0)
    return [told["cost"]] if "cost" in told else []


def far(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """One event a request over a round trip of 50 ms, compared with a single connection."""
    question = f"One event a request over {ROUND_TRIP * 1000:.0f} ms round trip, from {SETTLED:.0f} s after the start"
    seen: dict[str, list[float]] = {}
    alone: list[float] = []
    for _ in range(max(1, plan.rounds // 2)):
        alone += _rates_far(nginx, ROUND_TRIP, {"max_in_flight": 1}).values()
        for backend, answers in _rates_far(nginx, ROUND_TRIP, {}).items():
            seen.setdefault(backend, []).append(answers)
    one = median_if_any(alone)
    for backend in BOTH:
        rate = median_if_any(seen.get(backend, []))
        ratio = rate / one if rate and one else None
        met = None if ratio is None else ratio >= 8
        yield Row(question, backend, rate, "/s", ratio, "≥ 8 × one connection", met, more={"one": one})


def _rates_far(nginx: Nginx, seconds: float, settings: dict[str, Any], after: float = SETTLED) -> dict[str, float]:
    """Answers a second from each backend, over `WINDOW` seconds from ``after`` seconds after its first answer."""
    with delayed(nginx.port, seconds, len(BOTH)) as proxies:
        urls = {backend: proxy.url for backend, proxy in zip(BOTH, proxies, strict=True)}
        both = dict.fromkeys(BOTH, settings)
        ask("deliver", urls=urls, events=20_000, seconds=after + WINDOW + 1.0, settings=both)
        return {backend: proxy.rate(after, WINDOW) for backend, proxy in zip(BOTH, proxies, strict=True)}


def round_trips(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """For the plot: events a second against the round trip, with default settings and with one connection."""
    question = "Events/s against round trip, one event a request"
    for milliseconds in (1, 5, 20, 50, 100):
        for name, settings in _SERIES.items():
            value = _rates_far(nginx, milliseconds / 1000, settings, after=2.0)["trakerr"]
            more = {"ms": milliseconds, "series": name}
            yield Row(question, f"{milliseconds} ms, {name}", value, "/s", more=more)


_SERIES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "one connection": {"max_in_flight": 1},
}


def batches(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """Many events a request, gzipped, to one backend and to two."""
    events = plan.count(500_000, 5000)
    question = f"A batch a request, gzip, backlog of {events:,}"
    array, lines = {"batch": "array"}, {"batch": "lines"}
    cases: tuple[tuple[str, dict[str, dict[str, Any]], int], ...] = (
        ("jKool, lines", {"jkool": lines}, 40_000),
        ("jKool, array", {"jkool": array}, 40_000),
        ("Trakerr, array", {"trakerr": array}, 40_000),
        ("both at once: Trakerr array, jKool lines", {"trakerr": array, "jkool": lines}, 25_000),
    )
    seen: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in cases}
    exporter: list[float] = []
    bare: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(max(1, plan.rounds // 2)):
        for services, rates in bare.items():
            told = ask("bare_batches", url=nginx.good, services=services, batches=plan.count(100, 2))
            rates += [told["rate"]] if "rate" in told else []
        for name, settings, _ in cases:
            told = ask(
                "deliver", urls=dict.fromkeys(settings, nginx.good), events=events, seconds=150.0, settings=settings
            )
            speed = speed_of(told, events)
            if speed is not None:
                seen[name].append(speed)
        count = events // 5
        told = ask("burst", peer="OpenTelemetry, room for all", url=nginx.good, records=count, threads=1)
        if "settled_in" in told:
            exporter.append(count / told["settled_in"])
    rival = median_if_any(exporter)
    for name, settings, target in cases:
        rate = median_if_any([one["rate"] for one in seen[name]])
        cpu = median_if_any([one["cpu"] * 1e6 for one in seen[name]])
        note = "" if cpu is None else f"{cpu:.1f} µs of CPU an event in the shipper process"
        ratio = rate / rival if rate and rival else None
        yield Row(
            question, name, rate, "/s", ratio, f"≥ {target:,}/s", rate is not None and rate >= target, note,
            {"cpu": cpu, "backends": len(settings)},
        )  # fmt: skip
    for services, rates in bare.items():
        rate = median_if_any(rates)
        name = f"bare: unpack, JSON, gzip, urllib3, to {'one' if services == 1 else 'both'}"
        yield Row(question, name, rate, "/s", rate / rival if rate and rival else None)
    yield Row(question, "OpenTelemetry's exporter, in the application", rival, "/s", 1.0 if rival else None)


def speed_of(told: dict[str, Any], events: int) -> dict[str, float] | None:
    """Events a second, CPU seconds per event and RSS, from the first sample with delivered events to the last."""
    samples: Sequence[Sequence[float]] = told.get("samples", [])
    moving = [sample for sample in samples if max(sample[3:]) > 0]
    if len(moving) < 2 or min(moving[-1][3:]) < events:
        return None
    first, last = moving[0], moving[-1]
    done = events - sum(first[3:]) / len(first[3:])
    return {
        "rate": done / (last[0] - first[0]),
        "cpu": (last[1] - first[1]) / done,
        "rss": max(one[2] for one in samples),
    }
