"""The shipper process is killed, stopped, delayed or hit by an error at every step that changes durable state."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import shipper
from shipper.application.lifecycle import current
from shipper.event.model import Event
from shipper.spool.files import read_json

from ..support.waiting import PATIENCE, scaled, stop_process, wait_until
from .failpoints import Failpoint, Failpoints
from .ledger import APP, Case
from .oracle import Step

SEGMENT = 4096
SPOOLING = shipper.Spooling(segment=SEGMENT, quota=1 << 20)
CURSORS = "shipper.journal.cursors"

POINTS = [
    Failpoint("before a splice", "shipper.journal.writer:Writer.splice"),
    Failpoint("after a splice", "shipper.journal.writer:Writer.splice", "after"),
    Failpoint("before a later splice", "shipper.journal.writer:Writer.splice", number=5),
    Failpoint("before a rotation", "shipper.journal.writer:Writer.sync"),
    Failpoint("inside a rotation", "shipper.journal.writer:Writer.close", "after"),
    Failpoint("before a new segment", "shipper.journal.writer:open_file", where="000000000002.seg"),
    Failpoint("after a new segment", "shipper.journal.writer:open_file", "after", where="000000000002.seg"),
    Failpoint("after a rotation", "shipper.journal.writer:Writer.rotate_if_due", "after", number=3),
    Failpoint("before a cursor is written", f"{CURSORS}.cursor_files:write_atomically", where="trakerr.json"),
    Failpoint("before a cursor is replaced", "os:replace", where="trakerr.json"),
    Failpoint("after a cursor was replaced", "os:replace", "after", where="trakerr.json"),
    Failpoint("before a dead letter", "shipper.delivery.dead.writer:DeadLetters.write"),
    Failpoint("after a dead letter", "shipper.delivery.dead.writer:DeadLetters.write", "after"),
    Failpoint("before a segment is deleted", "os:unlink", where=".seg"),
    Failpoint("after a segment was deleted", "os:unlink", "after", where=".seg"),
    Failpoint("before the ledger is replaced", "os:replace", where="ledger.json"),
    Failpoint("after the ledger was replaced", "os:replace", "after", where="ledger.json"),
    Failpoint("before the status is replaced", "os:replace", where="status.json"),
    Failpoint("at the start", "shipper.process.main:main"),
    Failpoint("after the settings came", "shipper.process.main:_read_settings", "after"),
    Failpoint("before the cursors are opened", "shipper.process.deliveries:Deliveries._open_cursor"),
    Failpoint("before the backends are opened", "shipper.process.deliveries:Deliveries.open"),
    Failpoint("after the backends were opened", "shipper.process.deliveries:Deliveries.open", "after"),
    Failpoint("before a request", "shipper.backends.http.sender:Sender._send", number=10),
    Failpoint("between an answer and its commit", "shipper.backends.http.sender:Sender._send", "after", number=10),
    Failpoint("before a commit", f"{CURSORS}.cursor:Cursor.commit", number=2),
    Failpoint("after a commit", f"{CURSORS}.cursor:Cursor.commit", "after", number=2),
]
ADOPTING = [
    Failpoint("before an overflow is appended", "shipper.journal.writer:Writer.append"),
    Failpoint("after an overflow was appended", "shipper.journal.writer:Writer.append", "after"),
    Failpoint("before its drops are noted", "shipper.journal.account:Account.note_drops"),
    Failpoint("before an overflow is removed", "shipper.transport.memory.orphans:OrphanedOverflow.remove"),
    Failpoint("after an overflow was removed", "shipper.transport.memory.orphans:OrphanedOverflow.remove", "after"),
]
RECOVERING = [
    Failpoint("before trails are looked for", "shipper.process.ingest.recovery:Recovery.begin"),
    Failpoint("before what the pipe lost is put back", "shipper.journal.writer:Writer.append"),
    Failpoint("after what the pipe lost was put back", "shipper.journal.writer:Writer.append", "after"),
    Failpoint("before a trail is removed", "shipper.transport.memory.orphans:OrphanedMirror.remove"),
    Failpoint("after a trail was removed", "shipper.transport.memory.orphans:OrphanedMirror.remove", "after"),
]
ENDING = [
    Failpoint("when told to hand over", "shipper.process.service:Service._on_hand_over"),
    Failpoint("before the end", "shipper.process.service:Service._end"),
    Failpoint("while the deliverers end", "shipper.delivery.deliverer:Deliverer._end"),
    Failpoint("after the end", "shipper.process.service:Service._end", "after"),
]


class Poisonable(shipper.Trakerr):
    """Trakerr whose encoder ends its process at some messages; at "main only" not in a forked copy of it."""

    def body(self, events: Sequence[Event], context: shipper.AppContext) -> bytes:
        for event in events:
            if "segfault" in event.message:
                signal.raise_signal(signal.SIGSEGV)  # to this thread, as a real one: it does not get a step further
            if "exit" in event.message:
                os._exit(0)
            if "main only" in event.message and threading.active_count() > 1:
                os._exit(1)
        return super().body(events, context)


def named(points: list[Failpoint]) -> list[object]:
    return [pytest.param(point, id=point.name) for point in points]


class Logging:
    """An application in the test's process, whose shipper process has failpoints."""

    def __init__(self, case: Case, failing: Failpoints) -> None:
        self.case = case
        self.logger = logging.Logger("failpoints")
        self.side = Path(case.options["ledger"], "test").open("a")  # noqa: SIM115 # closed in `close`
        self.count = 0
        self.failing = failing

    def start(self, *backends: object, **settings: object) -> None:
        shipper.start(
            *(backends or self.case.backends()),
            app=APP,
            spool=self.case.path,
            logger=self.logger,
            python=self.failing.python,
            **{"spooling": SPOOLING, **settings},  # type: ignore[arg-type]
        )

    def is_served(self) -> bool:
        """Whether a process with the settings of the last start is at work."""
        running = current()
        said = read_json(self.case.spool.status) or {}
        return running is not None and said.get("digest") == running.settings.digest and not said["ended"]

    def log(self, count: int) -> None:
        for _ in range(count):
            self.count += 1
            self.side.write(f"+ f-{self.count}\n")
            self.logger.info("id:f-%d %s", self.count, "rejected" if self.count % 10 == 0 else "")
            self.side.write(f"= f-{self.count}\n")
        self.side.flush()

    def close(self) -> None:
        self.side.close()


def run(case: Case, tmp_path: Path, *points: Failpoint, fires: int, timeout: float = 20.0) -> None:
    """Log in turns until the points were triggered ``fires`` times, stop, and check that nothing is missing."""
    for service in ("trakerr", "jkool"):
        case.oracle.always(service, Step(status=400, times=None, contains="rejected"))
    failing = Failpoints(tmp_path / "python", *points)
    app = Logging(case, failing)
    try:
        app.start()
        deadline = time.monotonic() + scaled(timeout)
        while failing.fired < fires:
            assert time.monotonic() < deadline, f"the failpoint was met {failing.fired} times\n{case.story()}"
            app.log(20)
            shipper.flush(0.2)
        app.log(20)
        assert shipper.flush(PATIENCE), case.story()
        report = shipper.stop(PATIENCE)
    finally:
        app.close()
        shipper.stop(0)
    assert report is not None
    assert not report.dropped
    case.wait_for_end()
    assert failing.fired == fires
    case.check(fresh=False)


@pytest.mark.parametrize("point", named(POINTS))
def test_nothing_is_missing_when_it_is_killed_there_twice_in_a_row(
    case: Case, tmp_path: Path, point: Failpoint
) -> None:
    run(case, tmp_path, replace(point, times=2), fires=2)


@pytest.mark.long
@pytest.mark.parametrize("point", named(POINTS))
def test_nothing_is_missing_when_it_is_killed_there_once(case: Case, tmp_path: Path, point: Failpoint) -> None:
    run(case, tmp_path, point, fires=1)
    case.check()


@pytest.mark.long
@pytest.mark.parametrize("point", named(POINTS))
def test_nothing_is_missing_when_an_error_is_raised_there(case: Case, tmp_path: Path, point: Failpoint) -> None:
    run(case, tmp_path, replace(point, action="raise"), fires=1)


@pytest.mark.long
@pytest.mark.parametrize("point", named(POINTS))
def test_nothing_is_missing_when_it_is_slow_there(case: Case, tmp_path: Path, point: Failpoint) -> None:
    run(case, tmp_path, replace(point, action="delay", times=3), fires=1)


@pytest.mark.parametrize("point", named(POINTS[1:2] + POINTS[9:10] + POINTS[24:25]))
def test_nothing_is_missing_when_it_is_stopped_there_for_a_while(case: Case, tmp_path: Path, point: Failpoint) -> None:
    for service in ("trakerr", "jkool"):
        case.oracle.always(service, Step(status=400, times=None, contains="rejected"))
    failing = Failpoints(tmp_path / "python", replace(point, action="stop"))
    app = Logging(case, failing)
    try:
        app.start()
        app.log(50)
        wait_until(lambda: failing.fired, 10)
        app.log(500)
        assert not shipper.flush(0.3)
        os.kill(case.shipper_pid(), signal.SIGCONT)
        assert shipper.flush(PATIENCE)
    finally:
        app.close()
        shipper.stop(PATIENCE)
    case.wait_for_end()
    case.check()


def go_on(case: Case, failing: Failpoints, *, fires: int) -> None:
    """Start after a kill, log once the failpoints were triggered ``fires`` times, and wait for the end."""
    runner = Logging(case, failing)
    try:
        runner.start(spooling=shipper.Spooling())
        wait_until(lambda: failing.fired == fires, 20, f"{fires} kills")
        runner.log(20)
        assert shipper.flush(PATIENCE), case.story()
    finally:
        runner.close()
        shipper.stop(PATIENCE)
    case.wait_for_end()


@pytest.mark.parametrize("point", named(ADOPTING))
def test_nothing_is_missing_when_it_is_killed_twice_while_it_adopts_an_overflow(
    case: Case, tmp_path: Path, point: Failpoint
) -> None:
    """The overflow holds the events of a killed process for which the pipe had no room."""
    fires = 1 if point is ADOPTING[-1] else 2  # once it is removed, it is not adopted again
    failing = Failpoints(tmp_path / "python", replace(point, times=fires))
    app = case.app("obey", settings={"python": failing.python})
    app.line()
    pid = case.wait_for_shipper()
    stop_process(pid)
    app.order("300 5000")
    app.line()
    app.kill()
    app.process.wait()
    os.kill(pid, signal.SIGCONT)
    go_on(case, failing, fires=fires)
    case.check(fresh=False)


@pytest.mark.parametrize("point", named(RECOVERING))
def test_nothing_is_missing_or_doubled_when_it_is_killed_while_it_puts_back_what_the_pipe_lost(
    case: Case, tmp_path: Path, point: Failpoint
) -> None:
    app = case.app("obey")
    app.line()
    pid = case.wait_for_shipper()
    stop_process(pid)
    app.order("300 0")
    app.line()
    app.kill()  # first: else it might start a shipper process without the failpoint, which puts the events back
    app.process.wait()
    os.kill(pid, signal.SIGKILL)
    case.wait_for_end()  # once no process has the pipe open, its content is lost
    failing = Failpoints(tmp_path / "python", point)
    go_on(case, failing, fires=1)
    case.check(fresh=False, doubles=0)


@pytest.mark.parametrize("point", named(ENDING))
def test_nothing_is_missing_when_it_is_killed_while_it_hands_over(case: Case, tmp_path: Path, point: Failpoint) -> None:
    failing = Failpoints(tmp_path / "python", replace(point, times=2))
    app = Logging(case, failing)
    try:
        for turn in range(4):
            app.start(batching=shipper.Batching(max_events=100 + turn))
            app.log(50)
            if turn < 3:
                wait_until(app.is_served, 10, "a shipper process with these settings")
        assert failing.fired
        assert shipper.flush(PATIENCE), case.story()
    finally:
        app.close()
        shipper.stop(PATIENCE)
    case.wait_for_end()
    case.check()


@pytest.mark.parametrize("batch", [None, "array"])
@pytest.mark.parametrize("poison", ["segfault", "exit", "main only"])
def test_an_event_that_kills_its_encoder_becomes_a_dead_letter_and_all_others_arrive(
    case: Case, tmp_path: Path, poison: str, batch: str | None
) -> None:
    """The other backend gets it too, and no further process is killed by it."""
    failing = Failpoints(tmp_path / "python")
    app = Logging(case, failing)
    trakerr = Poisonable("key", url=case.options["trakerr"], level=0, batch=batch, name="trakerr")
    try:
        app.start(trakerr, case.backends()[1], spooling=shipper.Spooling())
        app.log(50)
        app.logger.info("id:poison-1 %s", poison)
        app.log(50)
        app.logger.info("id:poison-2 %s", poison)
        app.log(50)
        assert shipper.flush(PATIENCE), case.story()
        pid = case.shipper_pid()
        app.log(50)
        assert shipper.flush(PATIENCE), case.story()
        assert case.shipper_pid() == pid
    finally:
        app.close()
        shipper.stop(PATIENCE)
    case.wait_for_end()
    trakerr_account, jkool_account = case.account("trakerr"), case.account("jkool")
    assert not trakerr_account.missing
    assert not jkool_account.missing
    assert trakerr_account.dead == {"poison-1", "poison-2"}
    assert {"poison-1", "poison-2"} <= jkool_account.delivered
    assert not jkool_account.dead


def test_an_innocent_event_that_was_being_encoded_at_a_kill_is_delivered(case: Case, tmp_path: Path) -> None:
    """The next process encodes the event alone and survives: the event is not to blame."""
    points = [Failpoint("encoding", "shipper.backends.trakerr:Trakerr.body", where="innocent")]
    app = Logging(case, Failpoints(tmp_path / "python", *points))
    try:
        app.start(spooling=shipper.Spooling())
        app.log(20)
        app.logger.info("id:innocent")
        assert shipper.flush(PATIENCE), case.story()
    finally:
        app.close()
        shipper.stop(PATIENCE)
    case.wait_for_end()
    assert app.failing.fired == 1
    assert "innocent" in case.account("trakerr").delivered
    assert not case.account("trakerr").dead
