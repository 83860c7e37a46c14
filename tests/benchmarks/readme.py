"""Print this folder's README.md from `bench.json` and `storm.json`: `python -m tests.benchmarks.readme`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .notes import BOTH, CALLS, QUIET
from .peers import PACKED, POSTED

HERE = Path(__file__).parent


def document(bench: dict[str, Any], storm: dict[str, Any] | None) -> str:
    again = {row["question"] for results in bench.get("alone", {}).values() for row in results["rows"]}
    rows = [row for row in bench["rows"] if row["question"] not in again]  # measured again: own table
    parts = [*_head(bench), *_table(rows), "", *_pictures(), *_alone(bench), *_storm(storm), QUIET, CALLS, BOTH]
    return "\n".join(parts)


def _head(bench: dict[str, Any]) -> Iterator[str]:
    machine = bench["machine"]
    yield _INTRODUCTION.format(
        command=bench["command"],
        rounds=bench["rounds"],
        cpu=machine["cpu"],
        cores=machine["cores"],
        python=machine["python"],
        nginx=machine["nginx"],
    )


_INTRODUCTION = """\
# Measurements

This file is made from `bench.json` and `storm.json` by `python -m tests.benchmarks.readme`. To measure again:

```bash
tests/benchmarks/run                  # everything, 5 rounds; writes bench.json and the pictures
tests/benchmarks/run --quick          # one small round, to see that it runs
tests/benchmarks/run --only cost wire # some of the questions
```

`{command}` measured shipper beside the usual alternatives, in the same run, in turn, {rounds} rounds; the numbers are
medians. Machine: {cpu}, {cores} cores, {python}, nginx {nginx} as the server. Compare the ratios: both sides of a ratio
were measured in the same minute, while the absolute numbers of this machine vary by a factor of two within an hour.

*Bare* is a script that makes the same calls but keeps no journal, counts and masks nothing, and loses what it holds
when it is killed. "Target" is what was decided before the measurement; on the machine for which the absolute targets
were set, OpenTelemetry's exporter makes 22,000 events/s, so 40,000/s are 1.8 × and 25,000/s are 1.1 × of it.
"""


_BESIDE = (
    "nothing",
    "bare: format, pack, write",
    POSTED,
    f"... with {PACKED}",
    "... with OpenTelemetry",
    "... of it the standard library and msgpack",
    "... the least of all",
    "... CPU of the shipper process until then",
    "bare: unpack, JSON, gzip, urllib3, to one",
    "bare: unpack, JSON, gzip, urllib3, to both",
    "stdlib queue",
    "loguru",
    "OpenTelemetry",
    "sentry-sdk",
    "requests",
    "urllib3 alone with the body ready, CPU a request",
    "OpenTelemetry's exporter, in the application",
)
"""Rows without a target that are shown all the same: lower bounds, and the best known alternatives."""


def _table(rows: list[dict[str, Any]], *, everything: bool = False) -> Iterator[str]:
    yield "| | measured | ratio | target | |"
    yield "|---|---:|---:|---|---|"
    question = ""
    for row in rows:
        if not everything and row["met"] is None and row["name"] not in _BESIDE:
            continue
        if row["question"] != question:
            question = row["question"]
            yield f"| **{question}** | | | | |"
        verdict = "" if row["met"] is None else "reached" if row["met"] else "**not reached**"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} ×"
        yield f"| {row['name']} | {_number(row['value'])} {row['unit']} | {ratio} | {row['target']} | {verdict} |"


def _number(value: float | None) -> str:
    if value is None:
        return "failed"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _pictures() -> Iterator[str]:
    yield "![What one log record costs the application](call-cost.png)"
    yield ""
    yield "![Events a second against the round trip](round-trip.png)"
    yield ""


def _alone(bench: dict[str, Any]) -> Iterator[str]:
    for name, results in bench.get("alone", {}).items():
        machine = results["machine"]
        yield f"`{results['command']}`, {machine['cpu']}, {machine['cores']} cores, load {machine['load at start']}:"
        yield ""
        yield from _table(results["rows"], everything=True)
        yield ""
        if name == "workers":
            yield WORKERS


def _storm(storm: dict[str, Any] | None) -> Iterator[str]:
    if storm is None:
        return
    yield "## The same kill storm"
    yield ""
    yield (
        f"`tests/run -e storm -- --seed {storm['seed']} --seconds {storm['seconds']:g}`: four workers log numbered "
        "records, and note each one whose call has returned; workers, and the consuming process where there is one, "
        "get `kill -9` at random moments and are started again at once."
    )
    yield ""
    yield "| | kills: workers | consumer | returned calls | arrived | lost | workers that hang | works afterwards |"
    yield "|---|---:|---:|---:|---:|---:|---:|---|"
    for one in storm["results"]:
        consumer = "none there" if one["contender"] == "loguru" else one["kills_of_consumers"]
        works = "yes" if one["works"] else "**no**"
        yield (
            f"| {_CALLED[one['contender']]} | {one['kills_of_workers']} | {consumer} | {one['emitted']:,} | "
            f"{one['arrived']:,} | {one['lost']:,} | {one['hung']} of 4 | {works} |"
        )
    yield ""


WORKERS = """\
*Modules of others* are those of the standard library and msgpack that shipper imports; in the bare worker each row is
what they take when those above are loaded. Most applications have loaded nearly all of them for themselves. shipper's
own part is the functions and classes of about 100 modules, all of which are loaded at the latest by `start()`. The RSS
counts pages of files too, such as the machine code of extension modules, which all processes that use them share.
"""


_CALLED = {
    "stdlib": "`multiprocessing.Queue` + `QueueListener`",
    "loguru": "loguru, `enqueue=True`",
    "shipper": "shipper",
}


def main() -> int:
    storm = HERE / "storm.json"
    told = json.loads(storm.read_text()) if storm.exists() else None
    print(document(json.loads((HERE / "bench.json").read_text()), told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
