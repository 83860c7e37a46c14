"""The status counts what is in the pipe, in overflows and in pipe mirrors, also when no shipper process reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from ..support.apps import App
from ..support.servers import Server
from ..support.waiting import PATIENCE


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


STOPPED = """
import glob
begin(overflow=1 << 20)
log.info("first"); assert shipper.flush(50)
pid = shipper.status().pid
os.kill(pid, signal.SIGSTOP)
while {open(path).read().rpartition(")")[2].split()[0] for path in glob.glob(f"/proc/{pid}/task/*/stat")} != {"T"}:
    time.sleep(0.01)
"""


def test_events_in_the_pipe_are_counted(app: App) -> None:
    done = app.run(
        STOPPED
        + dedent("""
        for n in range(100): log.info("event %d", n)
        print(shipper.status().in_memory)
        os.kill(pid, signal.SIGCONT)
        assert shipper.flush(80)
        print(shipper.status().in_memory)
        shipper.stop(5)
    """)
    )

    assert done.stdout.split() == ["100", "0"]


def test_events_in_an_overflow_are_counted_and_those_that_were_dropped_are_not(app: App) -> None:
    done = app.run(
        STOPPED
        + dedent("""
        for n in range(4000): log.info("event %d %s", n, "x" * 800)
        status = shipper.status()
        dropped = sum(sum(levels.values()) for levels in shipper.application.api.current().queue.drops.values())
        print(status.in_memory + dropped, dropped > 0)
        os.kill(pid, signal.SIGCONT)
        assert shipper.flush(80)
        print(shipper.status().in_memory)
        shipper.stop(5)
    """)
    )

    assert done.stdout.split() == ["4000", "True", "0"]


def test_events_of_several_processes_are_counted_and_those_of_killed_ones_too(app: App) -> None:
    done = app.run(
        STOPPED
        + dedent("""
        for _ in range(3):
            if os.fork() == 0:
                for n in range(50): log.info("event %d", n)
                os.kill(os.getpid(), signal.SIGKILL)
            os.wait()
        print(shipper.status().in_memory)
        os.kill(pid, signal.SIGCONT)
        assert shipper.flush(50)
        deadline = time.monotonic() + 50
        while shipper.status().in_memory and time.monotonic() < deadline: time.sleep(0.05)
        status = shipper.status()
        print(status.in_memory, status.journaled)
        shipper.stop(5)
    """)
    )

    assert done.stdout.split() == ["150", "0", "151"]


def test_events_that_wait_for_the_next_process_are_counted(app: App) -> None:
    """All processes were killed at once: the pipe is empty, and the mirrors have what was in it."""
    script = app.write(
        STOPPED
        + dedent("""
        for n in range(30): log.info("event %d", n)
        os.kill(pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    )
    with app.running(sys.executable, str(script)) as process:
        process.wait(PATIENCE * 2)
    app.wait_for_end()

    done = app.run("""
        from shipper.report import read_status
        from shipper.spool.layout import Spool
        print(read_status(Spool(os.environ["TEST_SPOOL"]), "test").in_memory)
        begin(); shipper.stop(80)
    """)

    assert done.stdout.split() == ["30"]
    app.wait_for(*(f"event {n}" for n in range(30)))
