"""How fast does a long backlog reach two backends in batches, compared with one: `python -m tests.benchmarks.both`."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import threading
from collections.abc import Iterator
from typing import Any

import psutil

from .children import ask
from .delivery import speed_of
from .servers import nginx

SETTINGS: dict[str, dict[str, Any]] = {"trakerr": {"batch": "array"}, "jkool": {"batch": "lines"}}
CASES = {
    "Trakerr alone": (["trakerr"], True),
    "jKool alone": (["jkool"], True),
    "both": (["trakerr", "jkool"], True),
    "both, in one process": (["trakerr", "jkool"], False),
}


def main() -> None:
    """Print events a second, summed over the backends, and the RSS of the largest encoder process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("events", type=int, nargs="?", default=500_000)
    options = parser.parse_args()
    found: dict[str, list[float]] = {case: [] for case in CASES}
    with nginx() as server, _largest_encoder() as largest:
        for _ in range(options.rounds):
            for case, (names, processes) in CASES.items():
                told = ask(
                    "deliver",
                    urls=dict.fromkeys(names, server.good),
                    events=options.events,
                    seconds=300.0,
                    settings={name: SETTINGS[name] for name in names},
                    processes=processes,
                )
                speed = speed_of(told, options.events)
                if speed is not None:
                    found[case].append(len(names) * speed["rate"])
            print(", ".join(f"{case} {rates[-1]:,.0f}/s" for case, rates in found.items() if rates), flush=True)
    rates = {case: statistics.median(each) for case, each in found.items()}
    one = (rates["Trakerr alone"] + rates["jKool alone"]) / 2
    for case, rate in rates.items():
        print(f"{case}: {rate:,.0f}/s, {rate / one:.2f} × one's")
    print(f"largest encoder process: {max(largest, default=0) / 2**20:.1f} MiB")


@contextlib.contextmanager
def _largest_encoder() -> Iterator[list[int]]:
    """Yield a list that gets the RSS, in bytes, of each encoder process seen inside the block (every 0.5 s)."""
    seen: list[int] = []
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(0.5):
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                if "shipper encoder: " in " ".join(process.info["cmdline"] or []) and process.info["memory_info"]:
                    seen.append(process.info["memory_info"].rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stopping.set()
        thread.join()


if __name__ == "__main__":
    main()
