"""Encoder processes and the shipper process are killed or stopped during a long backlog, or requests refused."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import random
import signal
from pathlib import Path

import psutil
import pytest

import shipper
from shipper.journal.segments import size_on_disk

from ..support.waiting import pass_time, wait_until
from .failpoints import Failpoint, Failpoints
from .oracle import Step
from .scene import Scene

TEXT = "x" * 2000
EVENTS, MANY = 9000, 30_000  # several times the events that a part must have
ENCODE = [  # lend at once, however busy the machine is, and again at once after a failure
    Failpoint("busy", "shipper.process.encoders.encoders:BUSY", action="set", value=0.0),
    Failpoint("again", "shipper.process.encoders.encoders:AGAIN_SECONDS", action="set", value=0.0),
    Failpoint("look", "shipper.process.encoders.encoders:LOOK_SECONDS", action="set", value=0.02),
]


class Encoders:
    """The encoder processes of a scene's shipper process."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.seen: set[psutil.Process] = set()

    def look(self) -> list[psutil.Process]:
        """Return those that run now."""
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            for each in psutil.Process(self._scene.pid).children():
                with contextlib.suppress(psutil.Error):
                    if "shipper encoder: " in " ".join(each.cmdline()):
                        found.append(each)
        self.seen.update(found)
        return found

    def go_on(self) -> None:
        """Continue all that were seen: one may be stopped, and its shipper process killed since."""
        for each in self.seen:
            with contextlib.suppress(psutil.Error):
                each.send_signal(signal.SIGCONT)

    def wait_for_one(self) -> psutil.Process:
        wait_until(lambda: bool(self.look()), 30, "an encoder process")
        return next(iter(self.look() or self.seen))


def has_journaled(scene: Scene, size: int) -> bool:
    return size_on_disk(scene.place.journal) > size


def gather_backlog(scene: Scene, python: str, events: int) -> Encoders:
    """Journal ``events`` events while no service can be reached, then let both be reached."""
    scene.oracle.down()
    spooling = shipper.Spooling(segment=1 << 20)
    batching = shipper.Batching(max_bytes=100_000, max_age=0.05)  # so small that both have full rounds for a long time
    batches = (scene.trakerr("a", batch="array"), scene.jkool("b", batch="lines"))
    scene.start(*batches, spooling=spooling, batching=batching, python=python, grace=60.0)
    for number in range(1, events + 1):
        scene.log(TEXT, level=logging.ERROR if number % 1000 == 0 else logging.INFO)
        if number % 1000 == 0:  # in turns: the queue does not hold all of them
            wait_until(functools.partial(has_journaled, scene, number * len(TEXT)), 30, "the events in the journal")
    scene.oracle.up()
    return Encoders(scene)


def check_all_arrived(scene: Scene, encoders: Encoders) -> None:
    wait_until(lambda: not scene.missing("a") and not scene.missing("b"), 90, "all events at both services")
    count = len(scene.emitted)
    wait_until(lambda: all(each.delivered == count for each in shipper.status().backends), 30, "all of them counted")
    shipper.stop(30)
    encoders.go_on()
    wait_until(lambda: not any(each.is_running() for each in encoders.seen), 20, "the end of the encoder processes")


@pytest.fixture
def python(tmp_path: Path) -> str:
    return Failpoints(tmp_path / "points", *ENCODE).python


@pytest.mark.timeout(300)
def test_a_long_backlog_arrives_once_at_both_services(scene: Scene, python: str) -> None:
    encoders = gather_backlog(scene, python, EVENTS)
    encoders.wait_for_one()

    check_all_arrived(scene, encoders)

    for service in ("a", "b"):
        assert set(scene.oracle.accepted(service).values()) == {1}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_process_that_is_lost_costs_no_event_and_repeats_none(scene: Scene, python: str, number: int) -> None:
    encoders = gather_backlog(scene, python, EVENTS)
    os.kill(encoders.wait_for_one().pid, number)

    check_all_arrived(scene, encoders)

    for service in ("a", "b"):
        assert set(scene.oracle.accepted(service).values()) == {1}


@pytest.mark.timeout(300)
def test_nothing_is_missing_whatever_is_killed(scene: Scene, python: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    encoders = gather_backlog(scene, python, MANY)
    encoders.wait_for_one()
    troubles = [Step(503, times=2), Step(413, times=1), Step(how="reset", times=1)]
    for _ in range(40):
        running = encoders.look()
        harm = chance.random()
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if harm < 0.2:
                scene.oracle.script(chance.choice("ab"), [chance.choice(troubles)])
            elif harm < 0.3:
                os.kill(scene.pid, signal.SIGKILL)
            elif running:
                chance.choice(running).send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]))
        pass_time(chance.random() * 0.2)
        if not scene.missing("a") and not scene.missing("b"):
            break

    for service in ("a", "b"):
        scene.oracle.script(service, [])
    check_all_arrived(scene, encoders)
