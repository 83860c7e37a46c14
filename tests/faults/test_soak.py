"""Mixed faults for a while, then quiet: nothing is missing, and resource use has hardly grown."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time

import psutil
import pytest

import shipper

from ..support.waiting import wait_until
from .oracle import Step
from .scene import Scene

FAULTS: list[list[Step]] = [
    [Step(503, {"Retry-After": "1"})],
    [Step(500, times=20)],
    [Step(429, seconds=0.5)],
    [Step(how=how) for how in ("reset", "close", "cut in head", "cut in body")],
    [Step(how="hang", times=2)],
    [Step(delay=0.05, times=200)],
    [Step(401, times=3)],
    [Step(408), Step(999), Step(bomb=8)],
]


@pytest.mark.parametrize(
    "seconds", [25.0, pytest.param(1800.0, marks=[pytest.mark.long, pytest.mark.timeout(2400)])]
)
def test_after_mixed_faults_nothing_is_missing_and_nothing_has_grown(scene: Scene, seconds: float) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    scene.start(
        scene.trakerr("a", timeout=(0.5, 0.5), max_in_flight=8),
        scene.jkool("b", timeout=(0.5, 0.5), max_in_flight=4),
        spooling=shipper.Spooling(segment=256 * 1024),
    )
    _warm_up(scene)
    before = _measured(scene)

    stopping = threading.Event()
    logging = threading.Thread(target=_log_all_the_time, args=(scene, stopping, seed))
    logging.start()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            _do_harm(scene, chance)
            threading.Event().wait(chance.uniform(0.1, 1.0))
    finally:
        stopping.set()
        logging.join()
    scene.oracle.script("a", [])
    scene.oracle.script("b", [])

    scene.all_arrive("a", "b", timeout=60)
    scene.a_fresh_record_flows("a", "b")
    scene.ids_are_the_same_at_every_retry("a")
    scene.ids_are_the_same_at_every_retry("b")
    _warm_up(scene)
    wait_until(lambda: scene.backend("a").left == 0 and scene.backend("b").left == 0, 10)
    wait_until(lambda: _has_not_grown(before, _measured(scene)), 10, f"{before} {_measured(scene)}")
    assert shipper.status().dropped == {}
    assert shipper.status().corrupt == 0
    assert scene.dead("a") == scene.dead("b") == []


def _warm_up(scene: Scene) -> None:
    scene.log_many(300)
    scene.all_arrive("a", "b")


def _log_all_the_time(scene: Scene, stopping: threading.Event, seed: int) -> None:
    chance = random.Random(seed)
    while not stopping.wait(0.02):
        for _ in range(chance.choice((0, 1, 1, 2, 5))):
            scene.log("x" * chance.choice((10, 100, 1000, 9000)))


def _do_harm(scene: Scene, chance: random.Random) -> None:
    harm = chance.randrange(12)
    if harm < len(FAULTS):
        scene.oracle.script(chance.choice("ab"), FAULTS[harm])
    elif harm == 8:
        scene.oracle.drop(reset=chance.random() < 0.5)
    elif harm == 9:
        scene.oracle.down()
        threading.Event().wait(chance.uniform(0.05, 0.5))
        scene.oracle.up()
    elif harm == 10:
        with contextlib.suppress(ProcessLookupError):
            os.kill(scene.pid, signal.SIGKILL)
    else:
        with contextlib.suppress(ProcessLookupError):
            pid = scene.pid
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(chance.uniform(0.05, 0.5))
            os.kill(pid, signal.SIGCONT)


def _measured(scene: Scene) -> dict[str, int]:
    process, own = scene.process, psutil.Process()
    journal = scene.spool / "journal"
    return {
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "memory": process.memory_info().rss,
        "segments": len(list(journal.iterdir())),
        "own descriptors": own.num_fds(),
        "own threads": own.num_threads(),
    }


ROOM = {"descriptors": 12, "threads": 12, "memory": 24 << 20, "segments": 1, "own descriptors": 1, "own threads": 0}
"""By how much each number may grow: a connection and a thread for each request of both ``max_in_flight`` (8, 4)."""


def _has_not_grown(before: dict[str, int], after: dict[str, int]) -> bool:
    return all(after[name] <= before[name] + room for name, room in ROOM.items())
