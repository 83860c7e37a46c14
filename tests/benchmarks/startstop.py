"""How long do importing, starting and stopping take?"""

from __future__ import annotations

from collections.abc import Iterator

from .children import ask, median_if_any
from .rows import Plan, Row
from .servers import Nginx, arrivals


def start_and_stop(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    question = "Importing, starting, stopping"
    urls = {"trakerr": nginx.good, "jkool": nginx.good}
    imports = [ask("importing") for _ in range(plan.rounds + 2)][1:]  # without the first, which writes bytecode
    others = [ask("importing_others") for _ in range(plan.rounds + 2)][1:]
    whole = [ask("start_and_stop", urls=urls) for _ in range(plan.rounds)]
    strangers = {name for one in imports for name in one.get("strangers", ())}
    yield _row(question, "import shipper, beyond logging", [one["wall"] for one in imports if "wall" in one], 40)
    alone = [one["wall"] for one in others if "wall" in one]
    yield Row(question, "... of it the standard library and msgpack", median_if_any(alone), "ms")
    yield Row(question, "... and strangers imported by it", len(strangers), "", None, "0", not strangers)
    yield _row(question, "start()", [one["start"] for one in whole if "start" in one], 50)
    yield _row(question, "stop(), nothing pending", [one["stop"] for one in whole if "stop" in one], 100)
    yield from _first_event(question, 3 * plan.rounds)


def _first_event(question: str, count: int) -> Iterator[Row]:
    """ms from the call of `start()` in a bare script to the arrival of the record that the script then logs."""
    wall, cpu = [], []
    for _ in range(count):
        with arrivals(b"the first record") as server:
            told = ask("first_event", urls={"trakerr": server.url, "jkool": server.url})
            if "began" in told and server.times:
                wall.append((min(server.times) - told["began"]) * 1e3)
                cpu.append(told["cpu"])
    yield _row(question, "start() until the first event is at a server", wall, 250)
    if wall:
        yield Row(question, "... the least of all", min(wall), "ms")
        yield Row(question, "... CPU of the shipper process until then", median_if_any(cpu), "ms")


def _row(question: str, name: str, values: list[float], most: int) -> Row:
    value = median_if_any(values)
    return Row(
        question, name, value, "ms", None, f"≤ {most} ms", value is not None and value <= most, more={"rounds": values}
    )
