"""Each process that ends without a clean close is in one event, whatever ends it and whatever else is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.process.deaths.reporter import NOTICES

from ..support.apps import App
from ..support.servers import Server
from ..support.waiting import PATIENCE, holds, wait_until

TELLS = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15)
"""Whether the kernel tells the exit status of a process that is gone."""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        yield App(server, spool, tmp_path)


def notices(app: App) -> list[dict[str, Any]]:
    """The events about deaths that arrived, each id once."""
    found = {}
    for request in list(app.server.requests):
        event = json.loads(request.body)
        if "without a clean close" in event["eventMessage"]:
            found[request.headers["idempotency-key"]] = event
    return list(found.values())


def details(notice: dict[str, Any]) -> dict[str, Any]:
    """The fields of a notice."""
    slots = notice["customProperties"]["stringData"].values()
    (text,) = (text for text in slots if text.startswith("death="))
    found: dict[str, Any] = json.loads(text.partition("=")[2])
    return found


def reported(app: App) -> Counter[int]:
    """How often each pid is in an event."""
    pids: Counter[int] = Counter()
    for notice in notices(app):
        found = details(notice)
        pids.update(found.get("pids") or [found["pid"]])
    return pids


UNTIL_SEEN = """
import contextlib, os, time
from shipper.process.deaths.watch import read_head
from shipper.spool.layout import Spool
from shipper.transport.memory.pipe_mirror import SUFFIX
from shipper.transport.memory.shared_file import list_files

def has_mirror():
    for path in list_files(Spool(os.environ["TEST_SPOOL"]).overflow):
        with contextlib.suppress(OSError, ValueError):
            if path.endswith(SUFFIX) and read_head(path).pid == os.getpid():
                return True
    return False

deadline = time.monotonic() + 60
while has_mirror() and time.monotonic() < deadline:
    time.sleep(0.05)
"""
"""A program that runs until no mirror of its pid is left, at most 60 s: an exec is not reported as a death."""

WORKERS = (
    f"""
import multiprocessing
UNTIL_SEEN = {UNTIL_SEEN!r}
"""
    + """

def work(end, settings):
    begin(report_deaths=True, **settings)
    for n in range(30):
        log.warning("%s did %d", end, n)
    shipper.flush(60)
    os.write(1, f"ready {end} {os.getpid()}\\n".encode())
    if end == "clean":
        return
    if end == "sys.exit":
        sys.exit(3)
    if end == "raise":
        raise ValueError("raised")
    if end == "stop":
        shipper.stop()
        os._exit(0)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if end == "exec":
        os.execv(sys.executable, [sys.executable, "-c", UNTIL_SEEN])
    if end == "_exit":
        os._exit(7)
    time.sleep(600)

def run(ends, method, **settings):
    context = multiprocessing.get_context(method)
    workers = {end: context.Process(target=work, args=(end, settings), daemon=end == "terminated") for end in ends}
    for worker in workers.values():
        worker.start()
    return workers
"""
)


INDENTED = WORKERS.replace("\n", "\n" + " " * 8)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_violent_ends_are_reported_once_and_others_never(app: App, method: str) -> None:
    """SIGKILL, a segmentation fault and os._exit are reported. Not reported are a return, sys.exit, an error,
    a stop before os._exit, an exec, a child that never logged, and a daemonic worker that its parent terminates."""
    source = f"""
        {INDENTED}
        if __name__ == "__main__":
            begin(report_deaths=True)
            log.warning("the parent")
            if not os.fork():
                time.sleep(1)
                os._exit(5)
            ends = ["clean", "sys.exit", "raise", "stop", "kill", "segfault", "exec", "_exit", "terminated"]
            workers = run(ends, {method!r})
            shipper.flush(60)
            for end, worker in workers.items():
                if end != "terminated":
                    worker.join()
            time.sleep(1.5)
            workers["terminated"].terminate()
            workers["terminated"].join()
    """
    with app.running(sys.executable, str(app.write(source))) as process:
        out, _ = process.communicate(timeout=PATIENCE * 3)
    assert process.returncode == 0, out
    app.wait_for_end(40)
    pids = {end: int(pid) for end, pid in re.findall(r"ready (\S+) (\d+)", out)}
    assert len(pids) == 9, out

    assert reported(app) == Counter({pids[end]: 1 for end in ("kill", "segfault", "_exit")})
    told = []
    for notice in notices(app):
        found = details(notice)
        (end,) = (end for end in pids if pids[end] == found["pid"])
        assert notice["logLevel"] == "fatal"
        assert found["app"] == "test"
        assert f"{end} did 29" in json.dumps(notice)
        assert f"{end} did 10" in json.dumps(notice)
        assert not re.search(rf"{end} did 9\b", json.dumps(notice))
        known = {"kill": "SIGKILL", "segfault": "SIGSEGV", "_exit": 7}
        told.append(found.get("signal") or found.get("exit_code"))
        assert told[-1] in (known[end], None)  # where it cannot be known, it is not guessed
    assert any(told) or not TELLS


def test_what_is_not_asked_for_is_not_reported(app: App) -> None:
    app.run('begin(); log.warning("one"); shipper.flush(30); os.kill(os.getpid(), signal.SIGKILL)', code=-9)
    app.wait_for_end(20)

    assert app.messages() == ["one"]


def test_the_end_of_the_only_process_is_reported_before_the_shipper_process_ends(app: App) -> None:
    source = 'begin(report_deaths=True); log.warning("one"); os.kill(os.getpid(), signal.SIGKILL)'

    app.run(source, code=-9)
    app.wait_for_end(40)

    assert sum(reported(app).values()) == 1
    assert "one" in app.messages()


def test_when_all_are_killed_at_once_the_next_start_reports_it(app: App) -> None:
    source = """
        begin(report_deaths=True)
        log.warning("one")
        shipper.flush(30)
        print("ready", flush=True)
        time.sleep(600)
    """
    with app.running(sys.executable, str(app.write(source))) as process:
        assert process.stdout is not None
        wait_until(lambda: "ready" in process.stdout.readline(), 20)  # type: ignore[union-attr]
        pid = process.pid
        shipper = app.wait_for_shipper()
        os.kill(shipper, signal.SIGSTOP)
        process.kill()
        os.kill(shipper, signal.SIGKILL)
        process.wait(PATIENCE)

    app.run("begin(report_deaths=True); time.sleep(3); shipper.stop(30)")
    app.wait_for_end(40)

    assert reported(app) == Counter({pid: 1})


def test_in_a_storm_of_kills_each_death_is_in_one_event_and_the_rest_is_counted(app: App) -> None:
    """Workers and the shipper process are killed again and again.

    Then more workers are killed than one shipper process reports with an event for each.
    """
    source = f"""
        {INDENTED}
        def batch(size):
            children = []
            logged, log_end = os.pipe()
            for n in range(size):
                pid = os.fork()
                if not pid:
                    log.warning("child %d of %d", n, size)
                    os.write(log_end, b".")
                    time.sleep(600)
                children.append(pid)
            for pid in children:
                os.read(logged, 1)  # one that was killed before it had logged would not be reported
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                print("killed", pid, flush=True)

        if __name__ == "__main__":
            begin(report_deaths=True, grace=60)
            log.warning("the parent")
            shipper.flush(60)
            for _ in range(4):
                batch(8)
                time.sleep(0.7)
            print("next", flush=True)
            sys.stdin.readline()
            batch(2 * {NOTICES})
            print("over", flush=True)
            sys.stdin.read()
    """
    with app.running(sys.executable, str(app.write(source)), stdin=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        killed: list[int] = []
        shipper = 0
        for line in process.stdout:
            if line.startswith("over"):
                break
            if line.startswith("next"):
                process.stdin.write("\n")
                process.stdin.flush()
            if line.startswith("killed"):
                killed.append(int(line.split()[1]))
                if len(killed) in (5, 13, 21, 29):
                    shipper = app.wait_for_shipper(other_than=shipper, timeout=20)
                    os.kill(shipper, signal.SIGKILL)
        process.communicate("", timeout=PATIENCE)
        assert process.returncode == 0
    app.wait_for_end(60)

    assert len(killed) == 32 + 2 * NOTICES
    assert holds(lambda: set(killed) <= set(reported(app)), 5)
    assert reported(app) == Counter(dict.fromkeys(killed, 1))
    assert any(details(notice).get("count", 1) > 1 for notice in notices(app)), "nothing was limited"
