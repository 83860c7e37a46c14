"""Workers, main processes and the shipper process are killed, stopped, ended: nothing that was logged is missing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from shipper.transport import frame

from ..support.waiting import PATIENCE, pass_time, scaled, stop_process, wait_until
from .failpoints import Failpoint, Failpoints
from .ledger import SERVICES, Case
from .oracle import Oracle, Step


def test_a_worker_killed_right_after_its_last_call_has_lost_nothing(case: Case) -> None:
    case.run("flood", count=1000, end="kill", code=-signal.SIGKILL)

    case.wait_for_end()
    assert len(case.emitted.returned) == 1000
    case.check(doubles=0)


@pytest.mark.parametrize("end", ["exit", "return"])
def test_a_process_that_ends_without_stop_has_lost_nothing(case: Case, end: str) -> None:
    started = time.monotonic()

    stderr = case.run("flood", count=200, end=end)

    assert time.monotonic() - started < scaled(10)
    assert not stderr
    case.wait_for_end()
    case.check(doubles=0)


STORMS = [
    ("fork", "parent"), ("fork", "worker"), ("spawn", "parent"), ("spawn", "worker"), ("forkserver", "worker"),
    ("forkserver", "parent"),
]


@pytest.mark.parametrize(("method", "start"), STORMS)
def test_nothing_is_missing_when_workers_and_the_shipper_process_are_killed_at_random(
    case: Case, method: str, start: str
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")

    case.run("storm", method=method, start=start, seed=seed, count=3000, kills=8, pause=0.3, timeout=60)

    case.wait_for_end(40)
    assert len(case.emitted.returned) >= 3000
    case.check()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("method", "start"), STORMS)
def test_nothing_is_missing_after_a_storm_of_two_hundred_kills(case: Case, method: str, start: str) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")

    case.run("storm", method=method, start=start, seed=seed, count=100_000, kills=200, pause=0.1, timeout=400)

    case.wait_for_end(600)  # 200,000 requests, to servers on the same cores
    assert len(case.emitted.returned) >= 100_000
    # The last kill may have left all of it to the next start, which takes its time for 100,000 events.
    case.check_that_a_record_flows(600)
    case.check(fresh=False)


def test_only_shipper_writes_to_stderr_of_a_killed_run(case: Case) -> None:
    """No resource_tracker, no leaked semaphores, no tracebacks."""
    stderr = case.run("storm", method="spawn", start="worker", seed=1, count=400, kills=3, pause=0.3, timeout=60)

    ours = re.compile(r"shipper: |[\d-]+ [\d:,]+ shipper\[faults\] ")  # warnings about the kills are allowed
    assert [line for line in stderr.splitlines() if not ours.match(line)] == []
    case.wait_for_end(40)
    case.check()


def test_a_worker_killed_inside_a_record_of_many_frames_loses_only_that_one(case: Case) -> None:
    case.run("big_record", code=-signal.SIGKILL)

    case.wait_for_end()
    assert case.emitted.begun - case.emitted.returned == {"big"}
    case.check()
    for backend in case.status.backends:
        assert backend.dropped == {"incomplete": {"INFO": 1}}


def test_half_a_frame_in_the_pipe_damages_no_other_record(case: Case) -> None:
    app = case.app("obey")
    app.line()
    whole = frame.encode(b"x" * 100, token=b"8 bytes!", seq=0, pid=os.getpid())[0]
    pipe = os.open(case.spool.queue, os.O_RDWR | os.O_NONBLOCK)
    os.write(pipe, whole[: frame.HEADER.size + 10])
    os.close(pipe)

    app.order("1000 0")
    app.line()
    app.end()

    case.wait_for_end()
    case.check(doubles=0)
    assert case.status.corrupt == 1


def test_the_shipper_process_is_soon_back_each_time_it_is_killed(case: Case) -> None:
    """Nothing is missing, and only what was in flight comes twice."""
    app = case.app("group", pause=0.01)
    workers = json.loads(app.line())[1:]
    pid = case.wait_for_shipper()
    gaps = []
    for _ in range(5):
        before = case.oracle.accepted_count("jkool")
        wait_until(lambda before=before: case.oracle.accepted_count("jkool") > before, 10)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        pid = case.wait_for_shipper(other_than=pid)
        gaps.append(time.monotonic() - killed)

    Path(case.options["ledger"], "stop").touch()
    app.end()
    case.wait_for_end()
    assert max(gaps) < scaled(2), gaps
    assert len(workers) == 4
    case.check(doubles=5 * 100)


@pytest.mark.parametrize("seconds", [1.5, pytest.param(30.0, marks=pytest.mark.long)])
def test_a_stopped_shipper_process_stops_no_application_and_drops_are_counted(case: Case, seconds: float) -> None:
    app = case.app("obey", settings={"overflow": 256 * 1024}, redirect=True)
    app.line()
    app.order("10 0")
    app.line()
    pid = case.wait_for_shipper()
    wait_until(lambda: case.oracle.accepted_count("jkool") >= 10, 10)
    stop_process(pid)
    stopped = time.monotonic()
    try:
        app.order("250 4000")
        assert app.line(), "it waited for the stopped process"
        pass_time(max(0.0, seconds - (time.monotonic() - stopped)))
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: case.oracle.accepted_count("jkool") > 100, 20)

    app.order("10 0")
    app.line()
    stderr = app.end()

    assert len(stderr.splitlines()) <= 1, stderr
    case.wait_for_end()
    check_that_only_counted_drops_are_missing(case, "queue_full")


def check_that_only_counted_drops_are_missing(case: Case, reason: str) -> None:
    case.check_that_a_record_flows()
    dropped = case.dropped()
    counted = case.status.dropped.get(reason, {})
    assert dropped
    for service in SERVICES:
        account = case.account(service)
        assert account.missing == dropped
    levels = {case.emitted.levels[name] for name in dropped}
    assert 40 not in levels, "errors were dropped before debug records"
    assert sum(counted.values()) == len(dropped)


def test_a_shipper_process_that_cannot_be_started_loses_nothing(case: Case, tmp_path: Path) -> None:
    """The application reports that and does not wait; the next start delivers what was logged."""
    broken = tmp_path / "no-python"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o755)
    began = time.monotonic()

    settings = {"python": str(broken), "exit_timeout": 60.0, "exit_wait": False}
    stderr = case.run("flood", count=500, end="return", settings=settings)

    assert len(stderr.splitlines()) <= 2, stderr
    assert "can't be started" in stderr
    assert time.monotonic() - began < 30, "it waited for its process until the deadline, 60 s"
    case.check()


def test_a_process_without_semaphores_ships(case: Case) -> None:
    app = case.app("no_semaphores")

    assert app.line() == "no semaphores"
    app.end()
    case.wait_for_end()
    case.check(doubles=0)


def test_a_pipe_that_may_not_grow_is_enough(case: Case, tmp_path: Path) -> None:
    refused = Failpoint("growing", "fcntl:fcntl", where="1048576", action="raise", times=9)
    failing = Failpoints(tmp_path / "python", refused)

    app = case.app("small_pipe", settings={"python": failing.python})

    assert app.line() == "65536"
    app.end()
    case.wait_for_end()
    assert failing.fired
    case.check(doubles=0)


def test_workers_ship_on_when_the_main_process_is_killed(case: Case) -> None:
    app = case.app("group", pause=0.01)
    _, *workers = json.loads(app.line())
    case.wait_for_shipper()
    app.kill()
    app.process.wait()
    before = case.oracle.accepted_count("jkool")
    wait_until(lambda: case.oracle.accepted_count("jkool") > before + 500, 10)

    assert len(case.shippers()) == 1
    Path(case.options["ledger"], "stop").touch()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers), 10)
    case.wait_for_end()
    case.check(doubles=0)


def test_the_last_worker_starts_a_new_shipper_process_when_the_main_process_is_gone(case: Case) -> None:
    app = case.app("group", workers=2)
    _, *workers = json.loads(app.line())
    app.kill()
    app.process.wait()
    os.kill(workers[0], signal.SIGKILL)
    pid = case.wait_for_shipper()
    os.kill(pid, signal.SIGKILL)

    case.wait_for_shipper(other_than=pid)
    Path(case.options["ledger"], "stop").touch()
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in workers), 10)
    case.wait_for_end()
    case.check()


def test_the_shipper_process_drains_and_ends_when_the_whole_application_is_killed(case: Case) -> None:
    app = case.app("group", pause=0.01)
    json.loads(app.line())
    wait_until(lambda: case.oracle.accepted_count("jkool") > 200, 10)

    app.kill_group()
    app.process.wait()

    case.wait_for_end()
    case.check(doubles=0)


@pytest.mark.parametrize(("count", "padding"), [(1, 0), (1500, 0), (300, 9000), (500, 3000)])
def test_nothing_is_missing_when_everything_is_killed_at_the_same_moment(
    case: Case, count: int, padding: int
) -> None:
    """All of it is in the overflow, or in the pipe, whose content is lost when the last process closes it."""
    app = case.app("obey")
    app.line()
    app.order("10 0")
    app.line()
    pid = case.wait_for_shipper()
    wait_until(lambda: case.oracle.accepted_count("jkool") == 10, 10)
    stop_process(pid)
    app.order(f"{count} {padding}")
    app.line()

    os.kill(pid, signal.SIGKILL)
    app.kill()
    app.process.wait()

    assert len(case.emitted.returned) == 10 + count
    case.check(doubles=10)  # they were answered, but that was not saved yet
    assert case.status.missing == 0
    assert not Path(case.spool.overflow).exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_is_missing_when_everything_is_killed_again_and_again(case: Case, workers: int) -> None:
    chance = random.Random(workers)
    for _ in range(4):
        app = case.app("group", workers=workers)
        pids = json.loads(app.line())
        pass_time(0.1 + chance.random() * 0.5)  # during a start, at work, or in between
        for pid in [*(process.pid for process in case.shippers()), *pids]:
            os.kill(pid, signal.SIGKILL)
        app.process.wait()

    case.wait_for_end()
    case.check_that_a_record_flows(60)
    case.check(fresh=False)


def refuse(oracle: Oracle) -> None:
    oracle.down()


def black_hole(oracle: Oracle) -> None:
    for service in SERVICES:
        oracle.script(service, [Step(how="hang", times=None)])


@pytest.mark.parametrize("fault", [refuse, black_hole])
def test_stop_keeps_its_deadline_when_nothing_is_reachable_and_the_next_start_delivers(
    case: Case, fault: Callable[[Oracle], None]
) -> None:
    fault(case.oracle)

    app = case.app("stop_in_time", count=500, stop=2, settings={"grace": 0.5})
    said = json.loads(app.line())
    app.end()

    assert said["took"] < scaled(2.5)
    assert not said["flushed"]
    assert said["left"] == {"trakerr": 500, "jkool": 500}
    case.wait_for_end()
    for service in SERVICES:
        assert len(case.account(service).spooled) == 500
        case.oracle.script(service, [])
    case.oracle.up()
    case.check()


def test_a_process_ends_in_time_when_nothing_is_reachable(case: Case) -> None:
    case.oracle.down()
    started = time.monotonic()

    stderr = case.run("flood", count=500, end="return", settings={"grace": 0.5})

    assert time.monotonic() - started < scaled(5.5)
    assert "Traceback" not in stderr
    case.wait_for_end()
    case.oracle.up()
    case.check()


def test_a_process_with_a_full_pipe_ends_in_time_while_the_shipper_process_is_stopped(case: Case) -> None:
    app = case.app("obey", stop=1.0)
    app.line()
    pid = case.wait_for_shipper()
    stop_process(pid)
    try:
        app.order("1000 3000")
        app.line()
        started = time.monotonic()
        app.end()
        took = time.monotonic() - started
    finally:
        os.kill(pid, signal.SIGCONT)

    assert took < scaled(2.5)
    case.wait_for_end()
    case.check()


@pytest.mark.parametrize("stopped", [True, False])
def test_what_is_logged_at_the_very_end_is_delivered_or_counted(case: Case, stopped: bool) -> None:
    started = time.monotonic()

    stderr = case.run("log_late", stopped=stopped)

    assert time.monotonic() - started < scaled(10)
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) <= 1
    case.wait_for_end()
    case.check_that_a_record_flows()
    counted = case.status.dropped.get("after_stop", {}).get("INFO", 0)
    assert bool(counted) == stopped
    for service in SERVICES:
        account = case.account(service)
        missing = account.missing
        begun = account.emitted.begun - account.emitted.returned
        assert {"in-atexit", "in-shutdown"} <= account.delivered | missing
        assert len(missing) <= counted <= len(missing | begun)


def test_stop_and_start_may_be_called_any_number_of_times(case: Case) -> None:
    stderr = case.run("stop_everywhere")

    assert not stderr
    case.wait_for_end()
    case.check(doubles=0)


@pytest.mark.skipif(hasattr(logging.Logger, "_tls"), reason="logging of this release ignores what is logged inside it")
def test_logging_inside_logging_delivers_everything(case: Case) -> None:
    """The calls come from signal handlers, destructors, filters and `__str__`."""
    stderr = case.run("reenter", count=600)

    assert not stderr
    case.wait_for_end()
    assert any(name.startswith("signal") for name in case.emitted.returned)
    assert any(name.startswith("del-") for name in case.emitted.returned)
    assert any(name.startswith("filter-") for name in case.emitted.returned)
    case.check(doubles=0)


def test_events_arrive_when_the_thread_that_empties_the_overflow_could_not_be_started(case: Case) -> None:
    app = case.app("no_thread")
    pid = case.wait_for_shipper()
    stop_process(pid)
    try:
        app.order("go")
        assert app.line() == "logged"
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: case.oracle.accepted_count("jkool") >= 200, 15)

    app.end()
    case.wait_for_end()
    case.check(doubles=0)


def test_multiprocessings_own_messages_are_shipped_without_a_deadlock(case: Case) -> None:
    case.run("mp_debug", timeout=15)

    case.wait_for_end()
    case.check_that_a_record_flows()
    for service in SERVICES:
        assert not case.account(service).missing


def test_a_daemonic_child_that_is_terminated_has_lost_nothing(case: Case) -> None:
    started = time.monotonic()

    case.run("daemon_child")

    assert time.monotonic() - started < scaled(10)
    case.wait_for_end()
    case.check(doubles=0)


def test_the_shipper_process_inherits_no_socket(case: Case) -> None:
    """The port of a killed server is free at once, though the shipper process lives on."""
    black_hole(case.oracle)
    app = case.app("listening")
    port = int(app.line())
    pid = case.wait_for_shipper()
    wait_until(lambda: case.oracle.request_count("jkool") > 0, 10)

    app.kill()
    app.process.wait()

    assert psutil.pid_exists(pid)
    listening = socket.create_server(("127.0.0.1", port))
    listening.close()
    mine = {link for link in _links(pid) if link.startswith("socket:")}
    assert len(mine) <= 2 * 8, mine  # its own connections to the two services
    for service in SERVICES:
        case.oracle.script(service, [])
    case.oracle.drop()
    case.wait_for_end(40)
    case.check()


def _links(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def test_the_last_records_arrive_when_the_group_gets_sigint_and_sigterm(case: Case) -> None:
    app = case.app("obey")
    app.line()
    pid = case.wait_for_shipper()
    app.order("500 0")
    app.line()

    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    app.order("500 0")
    app.line()
    os.killpg(app.pid, signal.SIGINT)
    os.killpg(app.pid, signal.SIGTERM)
    app.end(code=None)

    case.wait_for_end()
    case.check(doubles=0)


def test_a_slow_backend_with_a_growing_backlog_keeps_its_shipper_process(case: Case) -> None:
    case.oracle.script("jkool", [Step(delay=0.3, times=6)])
    app = case.app("obey")
    app.line()
    pid = case.wait_for_shipper()
    app.order("800 0")
    app.line()

    wait_until(lambda: case.oracle.accepted_count("jkool") >= 800, 20)
    assert case.shipper_pid() == pid
    app.end()
    case.wait_for_end()
    case.check(doubles=0)


def test_a_script_on_stdin_without_a_main_guard_ships(case: Case) -> None:
    """Under spawn, where a multiprocessing.Process would fail."""
    script = (
        "import multiprocessing, sys\n"
        "multiprocessing.set_start_method('spawn')\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import apps\n"
        "apps.begin()\n"
        "apps.log_many('stdin', 20)\n"
    )
    environment = {**os.environ, "FAULTS_OPTIONS": json.dumps(case.options)}

    ended = subprocess.run(
        [sys.executable, "-"],
        input=script,
        text=True,
        env=environment,
        timeout=PATIENCE,
        check=False,
        capture_output=True,
    )

    assert ended.returncode == 0, ended.stderr
    assert not ended.stderr
    assert not ended.stdout
    case.wait_for_end()
    assert len(case.emitted.returned) == 20
    case.check(doubles=0)
