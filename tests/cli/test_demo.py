"""`shipper demo` loses nothing, reports what it loses, keeps its time, and removes what it has created."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.cli.demo.application import Task
from shipper.cli.demo.outcome import Outcome, undelivered
from shipper.cli.demo.process import ApplicationProcess, DemoFailed
from shipper.cli.demo.progress import LIMIT
from shipper.cli.demo.scenario import Demo
from shipper.cli.demo.view import sentence, show_outcome
from shipper.receiver import Receiver

from ..support.command import lines_of, running
from ..support.waiting import PATIENCE, scaled, wait_until

SECONDS = 4  # of logging
SHORT = ("--records", "400", "--seconds", str(SECONDS))
GOOD = Outcome(
    emitted=400,
    delivered={"trakerr": 400, "jkool": 400},
    retried=3,
    duplicates=1,
    dropped=0,
    lost=0,
    left=0,
    unfinished=0,
    seconds=6.0,
)


@contextlib.contextmanager
def demo(*arguments: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run `shipper demo` with settings in the environment that it has to ignore."""
    environment = {**os.environ, "SHIPPER_LEVEL": "CRITICAL", "SHIPPER_SPOOL": "/nowhere", "SHIPPER_OVERFLOW": "many"}
    with running("demo", *arguments, stdout=stdout, env=environment) as process:
        yield process


def folders() -> list[str]:
    return [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("shipper-demo-")]


def row(said: str, name: str) -> int:
    """The number that stands in a row of the table."""
    found = re.search(rf"^{name} +([\d,]+) *$", said, re.MULTILINE)
    assert found is not None, said
    return int(found[1].replace(",", ""))


def test_the_demo_breaks_everything_and_loses_nothing_in_time() -> None:
    began = time.monotonic()

    with demo(*SHORT) as process:
        said = lines_of(process).read()

    assert process.returncode == 0, said
    assert time.monotonic() - began < SECONDS + LIMIT + scaled(2)
    for happening in ("503 for 2 seconds", r"worker \d+ got SIGKILL", r"shipper process \d+ got SIGKILL", "continues"):
        assert re.search(happening, said), said
    emitted = row(said, "emitted")
    assert 300 <= emitted <= 400
    assert row(said, "delivered to Trakerr") == row(said, "delivered to jKool") == emitted
    assert row(said, "retried") > 0
    assert row(said, "dropped") == row(said, "lost") == 0
    assert "has not ended" not in said
    assert "\x1b" not in said
    assert folders() == []


@pytest.mark.long
def test_the_demo_of_several_machines_kills_one_of_each_and_loses_nothing() -> None:
    with demo("--cluster", *SHORT) as process:
        said = lines_of(process).read()

    assert process.returncode == 0, said
    killed = ("the stream's leader,", "relay 1", "of host 1", "of host 2")
    assert [each for each in killed if f"{each} got SIGKILL" not in said] == []
    assert row(said, "delivered to Trakerr") == row(said, "delivered to jKool") == row(said, "emitted")
    assert row(said, "dropped") == row(said, "lost") == 0
    assert folders() == []


def test_in_a_terminal_there_are_bars_and_keep_leaves_the_page_running() -> None:
    screen, terminal = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(screen, shown))
    reader.start()

    with demo(*SHORT, "--keep", stdout=terminal) as process:
        os.close(terminal)
        wait_until(lambda: b"until Ctrl-C" in shown, SECONDS + LIMIT + 5)
        page = re.search(rb"What arrived is at (http://[\d.:]+)", shown)
        assert page is not None
        with urllib.request.urlopen(page[1].decode(), timeout=PATIENCE) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGINT)

    reader.join()
    os.close(screen)
    assert process.returncode == 0
    assert "━".encode() in shown
    assert b"at jKool" in shown
    assert b"has not ended" not in shown


def _read_all(descriptor: int, into: bytearray) -> None:
    """Read until no process has the terminal open."""
    while True:
        try:
            into += os.read(descriptor, 4096)
        except OSError:
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(number: signal.Signals) -> None:
    with demo(*SHORT) as process:
        next(line for line in lines_of(process) if "4 workers" in line)
        process.send_signal(number)

    assert process.returncode == 130
    assert folders() == []


class Silent:
    """A display that shows nothing."""

    def line(self, text: str) -> None:
        pass

    def progress(self, emitted: int, delivered: dict[str, int]) -> None:
        pass


def test_what_a_service_refuses_at_first_is_sent_again_and_not_lost() -> None:
    with Receiver() as receiver:
        receiver.fail("trakerr", status=400, count=3)

        outcome = Demo(receiver, Silent(), 200, 4, time.monotonic()).play()

    assert (outcome.lost, outcome.dropped, outcome.is_good) == (0, 0, True)
    assert outcome.delivered["trakerr"] == outcome.emitted
    assert outcome.delivered["jkool"] == outcome.emitted


def test_an_application_that_cannot_start_is_reported_with_its_stderr(tmp_path: Path) -> None:
    task = Task("no url", "no url", str(tmp_path / "spool"), str(tmp_path), records=4, seconds=1.0, stop_timeout=1.0)

    with ApplicationProcess(tmp_path, task) as application, pytest.raises(DemoFailed, match=r"Trakerr\.url='no url'"):
        application.answer("ready", time.monotonic() + scaled(20))


def test_waiting_for_the_application_ends_at_its_deadline(spool: Path, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    task = Task(url, url, str(spool), str(tmp_path), records=4, seconds=1.0, stop_timeout=0.5)

    with ApplicationProcess(tmp_path, task) as application:
        application.answer("ready", time.monotonic() + scaled(20))
        with pytest.raises(DemoFailed, match="did not answer 'killed' in time"):
            application.answer("killed", time.monotonic() + 0.1)


@pytest.mark.parametrize("bad", [{"lost": 1}, {"left": 1}, {"dropped": 1}, {"emitted": 0}])
def test_an_outcome_is_good_only_when_something_was_logged_and_nothing_was_lost_or_dropped(bad: dict[str, int]) -> None:
    assert GOOD.is_good
    assert not dataclasses.replace(GOOD, **bad).is_good  # type: ignore[arg-type]


def test_the_table_names_every_count(capsys: pytest.CaptureFixture[str]) -> None:
    show_outcome(GOOD)

    said = capsys.readouterr().out
    names = ("emitted", "delivered to Trakerr", "delivered to jKool", "retried", "duplicates", "dropped", "lost")
    assert [row(said, name) for name in names] == [400, 400, 400, 3, 1, 0, 0]
    assert "Every record is at both services" in said


def test_what_is_still_in_the_journal_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    late = dataclasses.replace(GOOD, left=2)
    odd = dataclasses.replace(GOOD, lost=2)

    show_outcome(late)

    said = capsys.readouterr().out
    assert (row(said, "still in the journal"), row(said, "lost")) == (2, 0)
    assert "2 records were still in the journal" in said
    assert "--records 100" in said
    assert "should not have happened" in sentence(odd)


@pytest.mark.parametrize(
    ("arrived", "left", "told"),
    [
        ({"a": {"1", "2", "3"}, "b": {"1", "2", "3"}}, {"a": 0, "b": 0}, (0, 0)),
        ({"a": {"1", "2", "3"}, "b": {"1"}}, {"a": 0, "b": 2}, (0, 2)),
        ({"a": {"1", "2"}, "b": {"1"}}, {"a": 3, "b": 3}, (0, 2)),
        ({"a": {"1", "2", "3"}, "b": {"1"}}, {"a": 0, "b": 1}, (2, 0)),
        ({"a": {"1", "2"}, "b": {"1"}}, {"b": 2}, (1, 2)),
    ],
)
def test_what_has_not_arrived_is_lost_unless_so_many_wait(
    arrived: dict[str, set[str]], left: dict[str, int], told: tuple[int, int]
) -> None:
    assert undelivered({"1", "2", "3"}, arrived, left) == told
