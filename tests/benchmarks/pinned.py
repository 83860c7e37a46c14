"""What a logging call costs when the application has a core of its own and all other processes share the other cores.

Each contender logs at 1,000 records a second, then as fast as possible, while its records are delivered: by shipper to
both backends, by "bare" to a process that only reads or to one that posts each record to two services. No other process
uses the application's core, but caches, memory and the pipe are shared with a busy process. Then the same, not pinned.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from .children import ask, median_if_any, percentile
from .peers import POSTED
from .rows import Plan, Row
from .servers import Nginx

NOTHING, BARE = "nothing", "bare: format, pack, write"
CONTENDERS = (NOTHING, BARE, POSTED, "shipper")
RATE = 1000.0
BURST = 100_000
WARM_UP = 300  # records, before anything is measured

_PACED, _BURST = "at 1,000 records/s", f"burst of {BURST:,}"
_VALUES = {
    "paced_cpu": f"{_PACED}: CPU of the application per record",
    "paced_mean": f"{_PACED}: a call, mean",
    "paced_p99": f"{_PACED}: a call, p99",
    "burst_cpu": f"{_BURST}: CPU of the application per record",
    "burst_mean": f"{_BURST}: a call, mean",
    "burst_max": f"{_BURST}: the longest call",
}
_TARGETS = {"paced_cpu": 1.10, "paced_mean": 1.10, "paced_p99": 1.2, "burst_cpu": 1.10, "burst_mean": 1.10}
_LONGEST_MICROSECONDS = 5000.0


def pinned(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """Yield rows whose ratio is to "nothing"; the ratios to both kinds of bare are in the note."""
    for is_pinned in (True, False):
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        errors: dict[str, str] = {}
        for _ in range(plan.rounds):
            for name in CONTENDERS:
                told = ask(
                    "called",
                    peer=name,
                    url=nginx.good,
                    pinned=is_pinned,
                    seconds=plan.seconds(5.0),
                    records=plan.count(BURST),
                    timeout=120,
                )
                if "paced_cpu" in told:
                    seen[name].append(told)
                errors[name] = told.get("error", "")
        for key, value in _VALUES.items():
            question = f"{'Pinned' if is_pinned else 'Not pinned'}, {value}"
            yield from _rows(question, key, seen, errors)


def _rows(
    question: str, key: str, seen: dict[str, list[dict[str, float]]], errors: dict[str, str]
) -> Iterator[Row]:
    def ratio(name: str, to: str) -> float | None:  # in the same round, where the machine is equally loaded
        pairs = zip(seen[name], seen[to], strict=False)
        return median_if_any([one[key] / other[key] for one, other in pairs if key in one and key in other])

    for name in CONTENDERS:
        if name == POSTED and key.startswith("burst"):
            continue
        value = median_if_any([one[key] for one in seen[name] if key in one])
        beside = [ratio(name, BARE), ratio(name, POSTED)]
        note = errors[name] or "".join(
            f"{each:.2f} × {of}  " for each, of in zip(beside, ("bare", "bare and posted"), strict=True) if each
        )
        target, met = "", None
        bare = beside[0] if key.startswith("burst") else beside[1]
        if name == "shipper" and value is not None and key == "burst_max":
            target, met = "≤ 5 ms", value <= _LONGEST_MICROSECONDS
        elif name == "shipper" and bare is not None:
            target, met = f"≤ {_TARGETS[key]:.2f} × bare", bare <= _TARGETS[key]
        yield Row(question, name, value, "µs", ratio(name, NOTHING), target, met, note.strip())


# -- in the process that is measured -------------------------------------------------------------------------------


def called(options: dict[str, Any]) -> dict[str, float]:
    """CPU per record and the times of calls, in µs: at `RATE`, then as fast as possible."""
    from . import application

    peer = application._peer(options)
    if options["pinned"]:
        own, others = _cores()
        os.sched_setaffinity(0, own)
        _move_away(others)
    for number in range(WARM_UP):
        peer.log(number)
        time.sleep(0.001)
    numbers: dict[str, float] = {}
    if options["pinned"]:
        _move_away(_cores()[1])  # again: the other processes have started threads meanwhile
    times: list[int] = []
    before = application._cpu()
    count = application._log_paced(peer.log, RATE, options["seconds"], times)
    numbers["paced_cpu"] = (application._cpu() - before) / count * 1e6
    numbers |= _told("paced", times)
    if options["peer"] == POSTED:  # a burst would measure the speed of the reader, for which it waits
        return numbers
    time.sleep(1.0)
    times = []
    before = application._cpu()
    application._log_all(peer.log, options["records"], times)
    peer.settle()
    numbers["burst_cpu"] = (application._cpu() - before) / options["records"] * 1e6
    numbers |= _told("burst", times)
    peer.end()
    return numbers


def _told(name: str, times: list[int]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        f"{name}_mean": sum(ordered) / len(ordered) / 1e3,
        f"{name}_p99": percentile(ordered, 0.99) / 1e3,
        f"{name}_max": ordered[-1] / 1e3,
    }


def _cores() -> tuple[set[int], set[int]]:
    """The application's core, and the cores of all other processes."""
    cores = sorted(range(os.cpu_count() or 1))
    return {cores[0]}, set(cores[1:]) or {cores[0]}


def _move_away(others: set[int]) -> None:
    """Move the children of this process, and the shipper process, which is no child, to the cores ``others``."""
    for each in os.listdir("/proc"):
        if each.isdigit() and int(each) != os.getpid() and _is_of_this_measurement(each):
            with contextlib.suppress(OSError):
                for thread in os.listdir(f"/proc/{each}/task"):
                    os.sched_setaffinity(int(thread), others)


def _is_of_this_measurement(pid: str) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        command = file.read()
        if b"shipper: bench " in command:
            return True
        with open(f"/proc/{pid}/stat", "rb") as status:
            return int(status.read().rpartition(b")")[2].split()[1]) == os.getpid()
    return False


CHILDREN: tuple[Callable[[dict[str, Any]], dict[str, float]], ...] = (called,)
