"""Anything is killed in any order, one process or all at the same moment, while the services are in trouble too."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from shipper import Spooling
from shipper.journal.cursors.cursor import BACKLOG
from shipper.journal.cursors.cursor_files import saved_positions
from shipper.journal.segments import size_on_disk
from shipper.transport.pipe import PIPE_BYTES

from ..support.waiting import pass_time, wait_until
from .ledger import SERVICES, App, Case
from .oracle import Step

TROUBLES = [
    Step(503, times=20),
    Step(429, seconds=0.3),
    Step(how="reset", times=5),
    Step(how="cut in body", times=3),
    Step(delay=0.02, times=50),
    Step(delay=0.2, seconds=2.0),
    Step(503, headers={"Retry-After": "1"}, times=2),
    Step(404, times=2),
    Step(404, seconds=1.0),
    Step(413, times=1),
    Step(500, seconds=1.0),
    Step(how="close", times=5),
    Step(how="close", seconds=1.0),
    Step(how="drip", delay=0.01, times=3),
    Step(how="hang", times=2),
]
LARGEST = 20_000  # bytes of an event with the longest padding
BYTES_PER_SECOND = 2_000_000  # of each process, in records of 10 to 250,000 characters


class Storm:
    """Up to two applications, each a main process and its workers, and the faults they meet."""

    def __init__(
        self, case: Case, chance: random.Random, *, all_sizes: bool = False, spooling: Spooling | None = None
    ) -> None:
        self._case = case
        self._spooling = spooling
        self._chance = chance
        self._all_sizes = all_sizes
        self.lanes = 0  # how often an express lane was seen
        self.largest_journal = 0  # bytes
        self._apps: list[App] = []
        self._processes: set[psutil.Process] = set()  # each with its start time: a pid may be another's by now

    def gather_backlog(self) -> None:
        """Journal more bytes than an express lane needs, while no service can be reached."""
        self._case.oracle.down()
        self._start()
        self._start()
        journal = self._case.spool.journal
        wait_until(lambda: size_on_disk(journal) > 2 * BACKLOG, 60, "a long backlog")
        self._case.oracle.up()

    def turn(self) -> None:
        self._apps = [app for app in self._apps if app.process.poll() is None]
        if len(self._apps) < 2:
            self._start()
        shippers = [process.pid for process in self._case.shippers()]
        harm = self._chance.choice([self._trouble, self._stop, self._kill, self._kill, self._kill])
        harm(shippers)
        cursors = saved_positions(self._case.spool.cursors)
        self.lanes += sum("lane" in saved for saved in cursors.values())
        pass_time(self._chance.random() * (1.6 if self._all_sizes else 0.4))
        self.largest_journal = max(self.largest_journal, size_on_disk(self._case.spool.journal))

    def _start(self) -> None:
        padding = self._chance.choice([0, 0, 100, 3000, 9000])
        options: dict[str, Any] = {"pause": 0.005, "padding": padding}
        if self._all_sizes:
            options = {"rate": BYTES_PER_SECOND}
        if self._spooling is not None:
            options["spooling"] = dataclasses.asdict(self._spooling)
        app = self._case.app("group", workers=self._chance.randrange(1, 4), **options)
        self._apps.append(app)
        self._processes.update(map(psutil.Process, json.loads(app.line())))

    def _trouble(self, shippers: Sequence[int]) -> None:
        self._case.oracle.script(self._chance.choice(SERVICES), [self._chance.choice(TROUBLES)])

    def _stop(self, shippers: Sequence[int]) -> None:
        send(signal.SIGSTOP, shippers)
        pass_time(self._chance.random() * 0.5)
        if self._chance.random() < 0.5:
            self._kill(shippers)
        send(signal.SIGCONT, shippers)

    def _kill(self, shippers: Sequence[int]) -> None:
        alive = sorted(process.pid for process in self._processes if process.is_running())
        some = self._chance.sample(alive, self._chance.randrange(len(alive) + 1))
        victims = [shippers, some, [*some, *shippers], [*shippers, *alive], [*alive, *shippers]]
        send(signal.SIGKILL, self._chance.choice(victims))

    def end(self) -> None:
        for service in SERVICES:
            self._case.oracle.script(service, [])
        Path(self._case.options["ledger"], "stop").touch()
        for app in self._apps:
            app.end(code=None)
        wait_until(lambda: not any(map(psutil.Process.is_running, self._processes)), 20, "the end of the workers")


def send(number: int, pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.mark.parametrize(
    "seconds", [8.0, pytest.param(600.0, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
@pytest.mark.parametrize("all_sizes", [False, True], ids=["", "all_sizes"])
def test_nothing_is_missing_whatever_is_killed_in_whatever_order(
    case: Case, seconds: float, all_sizes: bool
) -> None:
    """With records of all sizes the backlog is long enough for express lanes, in which errors overtake."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    storm = Storm(case, random.Random(seed), all_sizes=all_sizes)
    if all_sizes:
        storm.gather_backlog()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        storm.turn()
    storm.end()
    print(f"{storm.lanes} express lanes")

    case.check_that_a_record_flows(60 + seconds)
    case.check(fresh=False)
    assert case.status.missing == 0
    assert case.status.dropped == {}


@pytest.mark.parametrize("seconds", [8.0, pytest.param(300.0, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_a_small_quota_holds_and_what_is_given_up_is_counted(case: Case, seconds: float) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    spooling = Spooling(quota=2_000_000, segment=131_072)
    storm = Storm(case, random.Random(seed), spooling=spooling)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        storm.turn()
    storm.end()

    case.check_that_a_record_flows(60 + seconds, spooling=spooling)

    # A shipper process whose starter is killed before it writes the settings has no quota: it journals the whole pipe.
    assert storm.largest_journal <= spooling.quota + spooling.segment + LARGEST + PIPE_BYTES
    case.check_incomplete()
    assert case.status.missing == 0
    for backend in case.status.backends:
        missing = case.account(backend.name).missing
        given_up = sum(sum(levels.values()) for levels in backend.dropped.values())
        assert len(missing) <= given_up, f"{backend.name}: {len(missing)} missing, dropped {backend.dropped}"
