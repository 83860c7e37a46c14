"""A shipper process sleeps while nothing happens, and wakes when something does; a flush ends without delay."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from ..support.apps import App
from ..support.servers import Server
from ..support.waiting import wait_until


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def wake_ups(pid: int) -> int:
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return found


def test_an_idle_process_wakes_about_once_a_second(app: App) -> None:
    script = app.write("begin(); log.info('x'); assert shipper.flush(60); print('idle', flush=True); sys.stdin.read()")
    with app.running(sys.executable, str(script), stdin=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "idle\n"
        pid = app.wait_for_shipper()
        sleep(3)  # work left after the start: the cursor is saved, the first segments are checked

        began, before = monotonic(), wake_ups(pid)
        sleep(8)
        rate = (wake_ups(pid) - before) / (monotonic() - began)

        assert rate < 5, "it was 35 a second before the process waited for events"


def test_while_nothing_happens_the_status_stays_young(app: App) -> None:
    app.run("""
        begin(); log.info('x'); assert shipper.flush(60)
        for _ in range(10):
            time.sleep(0.5)
            age = time.time() - shipper.status().updated
            assert age < 3 * 4, age
        shipper.stop(5)
    """)


def test_an_idle_process_delivers_a_new_event_at_once(app: App) -> None:
    done = app.run("""
        begin(); log.info('first'); assert shipper.flush(60)
        took = []
        for n in range(5):
            time.sleep(1.2)
            began = time.monotonic()
            log.info("event %d", n)
            while shipper.status().backends[0].delivered < n + 2: time.sleep(0.005)
            took.append(time.monotonic() - began)
        print(min(took))
        shipper.stop(5)
    """)

    assert float(done.stdout) < 1.0


@pytest.mark.parametrize("damage", ["os.remove(path)", "open(path, 'w').close()", "os.remove(path); os.mkdir(path)"])
def test_a_flush_needs_no_file_of_progress(app: App, damage: str) -> None:
    """`status.json` has the same counts as the file `progress`, a moment later."""
    done = app.run(f"""
        begin(); log.info('first'); assert shipper.flush(60)
        path = os.path.join(os.environ["TEST_SPOOL"], "progress")
        {damage}
        for n in range(3):
            log.info("event %d", n)
            print(shipper.flush(20), shipper.status().backends[0].delivered)
        shipper.stop(5)
    """)

    assert done.stdout.splitlines() == ["True 2", "True 3", "True 4"]


def test_after_a_flush_the_status_has_what_was_flushed(app: App) -> None:
    done = app.run("""
        begin()
        for n in range(40):
            log.info("event %d", n)
            assert shipper.flush(60)
            status = shipper.status()
            if (status.journaled, status.backends[0].delivered, status.left) != (n + 1, n + 1, 0): print(n, status)
        print(shipper.stop(5).left)
    """)

    assert done.stdout.splitlines() == ["{'trakerr': 0}"]


def test_a_flush_is_true_only_after_delivery_also_when_the_process_is_replaced(app: App) -> None:
    done = app.run(
        """
        begin()
        for n in range(6):
            log.info("event %d", n)
            if n % 2 and (pid := shipper.status().pid): os.kill(pid, signal.SIGKILL)
            assert shipper.flush(60)
            print(n)
        shipper.stop(5)
    """,
        timeout=120,
    )

    assert done.stdout.split() == [str(n) for n in range(6)]
    assert {f"event {n}" for n in range(6)} <= set(app.messages())


def test_many_processes_flush_at_the_same_time(app: App) -> None:
    app.run(
        """
        begin()
        children = []
        for k in range(6):
            pid = os.fork()
            if pid == 0:
                for n in range(10):
                    log.info("%d-%d", k, n)
                    if not shipper.flush(30): os._exit(1)
                os._exit(0)
            children.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        shipper.stop(5)
    """,
        timeout=120,
    )

    app.wait_for(*(f"{k}-{n}" for k in range(6) for n in range(10)))


def test_a_signal_ends_an_idle_process_at_once(app: App) -> None:
    script = app.write("begin(grace=0.1); log.info('x'); assert shipper.flush(60); sys.stdin.read()")
    with app.running(sys.executable, str(script), stdin=True):
        pid = app.wait_for_shipper()
        app.wait_for("x")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 20)
