"""Measures shipper and the usual alternatives to it: `tests/benchmarks/run [--quick] [--only QUESTION ...]`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import calls, delivery, growth, latency, machine, memory, otlp, pinned, plots, rows, startstop, wire
from .rows import Plan, Row
from .servers import Nginx, nginx

QUESTIONS: dict[str, Callable[[Plan, Nginx], Iterator[Row]]] = {
    "cost": calls.cost,
    "burst": calls.burst,
    "pinned": pinned.pinned,
    "trouble": calls.trouble,
    "singles": delivery.singles,
    "far": delivery.far,
    "round-trips": delivery.round_trips,
    "batches": delivery.batches,
    "otlp": otlp.otlp,
    "memory": memory.memory,
    "workers": memory.workers,
    "growth": growth.growth,
    "start": startstop.start_and_stop,
    "wire": wire.wire,
    "latency": latency.latency,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/benchmarks/run", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), metavar="QUESTION",
                        help=", ".join(QUESTIONS))  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (5); medians are told")
    parser.add_argument("--scale", type=float, default=1.0, help="of records and seconds (1.0)")
    parser.add_argument("--quick", action="store_true", help="one small round of everything, to see that it runs")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent, help="folder of bench.json and the pictures"
    )
    options = parser.parse_args()
    plan = Plan(1, 0.02) if options.quick else Plan(options.rounds, options.scale)
    _compile_once()
    facts = machine.facts()
    print("\n".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    found: list[Row] = []
    whole = set(options.only) == set(QUESTIONS)
    for name, answer in _measured(plan, options.only):
        found += answer
        if whole:  # after each question, since all of them take long
            _save(options.output / "bench.json", _results(facts, plan, "", found))
        else:
            _save_one(options.output / "bench.json", name, _results(facts, plan, f"--only {name} ", answer))
    for path in plots.draw(found, options.output):
        print(f"drawn: {path}")
    return 0


def _measured(plan: Plan, names: list[str]) -> Iterator[tuple[str, list[Row]]]:
    # nginx has the last core, so that measurements on one core have the first.
    with nginx(core=max(os.sched_getaffinity(0))) as server:
        for name in names:
            begun = time.monotonic()
            answer = list(QUESTIONS[name](plan, server))
            print(rows.table(answer), flush=True)
            print(f"  [{name}: {time.monotonic() - begun:.0f} s]", flush=True)
            yield name, answer


def _compile_once() -> None:
    """Have Python cache bytecode outside the tree: imports are measured with bytecode, as after an installation."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = os.path.join(tempfile.gettempdir(), f"bench-bytecode-{os.geteuid()}")


def _results(facts: dict[str, object], plan: Plan, only: str, found: list[Row]) -> dict[str, Any]:
    return {
        "machine": facts,
        "rounds": plan.rounds,
        "scale": plan.scale,
        "command": f"tests/benchmarks/run {only}--rounds {plan.rounds} --scale {plan.scale:g}",
        "rows": [row.as_dict() for row in found],
    }


def _save(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def _save_one(path: Path, name: str, results: dict[str, Any]) -> None:
    """Save the results of one question beside those of the whole run, which may be from another machine."""
    data = json.loads(path.read_text()) if path.exists() else {**results, "rows": []}
    data.setdefault("alone", {})[name] = results
    _save(path, data)


if __name__ == "__main__":
    sys.exit(main())
