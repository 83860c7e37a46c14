"""`shipper pause`, `resume`, `retry-now`, `level`, `drain` and `forget`, beside a running application."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shipper.spool.layout import Spool

from ..support.apps import App
from ..support.servers import Reply, Request, Server
from ..support.status_files import STATUS, make_spool
from ..support.waiting import PATIENCE, holds, wait_until
from .conftest import Run

LONG = "retry=shipper.Retry(initial=3600, maximum=3600, unauthorised=3600), grace=60"


class Service:
    """Answers with ``status``."""

    def __init__(self) -> None:
        self.status = 200

    def __call__(self, request: Request) -> Reply:
        return Reply(self.status)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def app(spool: Path, tmp_path: Path, service: Service) -> Iterator[App]:
    with Server(service) as server:
        made = App(server, spool, tmp_path)
        yield made
        if pid := made.pid():
            os.kill(pid, signal.SIGKILL)
            made.wait_for_end()


Tell = Callable[..., str]


@contextmanager
def running_app(app: App, settings: str = LONG) -> Iterator[Tell]:
    """Run an application; yield a function that has it evaluate a line of Python, and returns the result as text."""
    source = f"""
        begin({settings})
        log.error("first")
        print("= ready", flush=True)
        for line in sys.stdin:
            print("=", eval(line), flush=True)
    """
    with app.running(sys.executable, str(app.write(source)), stdin=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        lines: list[str] = []

        def answer() -> str:
            for line in process.stdout or ():
                lines.append(line)
                if line.startswith("= "):
                    return line[2:].strip()
            raise AssertionError("".join(lines))

        def tell(command: str) -> str:
            process.stdin.write(f"{command}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return answer()

        assert answer() == "ready"
        yield tell
        process.communicate("", timeout=PATIENCE)


@pytest.fixture
def shipper(app: App, run: Run) -> Callable[..., tuple[int, str, str]]:
    def shipper(*arguments: str) -> tuple[int, str, str]:
        return run(*arguments, "--spool", str(app.spool))

    return shipper


def backend(run: Run, app: App) -> dict[str, Any]:
    found = json.loads(run("status", "--json", "--spool", str(app.spool))[1])[0]["backends"]
    return found[0] if found else {"state": "", "left": 0}


def log_some(tell: Tell, *messages: str) -> None:
    tell(f"[log.error(message) for message in {list(messages)!r}]")


def test_a_paused_backend_is_sent_nothing_until_it_is_resumed_even_by_the_next_process(
    app: App, run: Run, shipper: Run
) -> None:
    with running_app(app) as tell:
        app.wait_for("first")
        code, said, _ = shipper("pause", "trakerr")
        assert (code, said.startswith("trakerr is paused: the journal keeps its events, up to 512.0 MiB")) == (0, True)

        log_some(tell, "a", "b")
        assert tell("shipper.flush(3600)") == "False"
        pid = app.wait_for_shipper()
        os.kill(pid, signal.SIGKILL)
        app.wait_for_shipper(other_than=pid)
        log_some(tell, "c")
        assert tell("shipper.flush(3600)") == "False"
        wait_until(lambda: (backend(run, app)["state"], backend(run, app)["left"]) == ("paused", 3))
        assert app.messages() == ["first"]

        first_line = shipper("status", "--check")[1]
        assert first_line.startswith("test: degraded - trakerr is paused since ")
        assert "3 events wait." in first_line
        assert "`shipper resume trakerr --app test`" in first_line
        assert 'state="paused"} 1' in shipper("status", "--prometheus")[1]

        assert shipper("pause", "trakerr")[1].startswith("trakerr has been paused since ")
        assert shipper("resume", "trakerr")[0] == 0
        app.wait_for("a", "b", "c")
        assert tell("shipper.flush(60)") == "True"
    assert set(app.ids().values()) == {1}


def test_a_pause_without_a_running_process_holds_for_the_next_one(app: App, shipper: Run) -> None:
    with running_app(app):
        app.wait_for("first")
    app.wait_for_end(30)

    assert shipper("pause", "--all")[0] == 0
    with running_app(app, LONG) as tell:
        assert tell("shipper.flush(3600)") == "False"
        assert app.messages() == ["first"]
        assert len(app.ids()) == 1
    # The only backend is paused, so the process ends before its grace of 60 s is over.
    app.wait_for_end(10)
    code, said, _ = shipper("drain")
    assert (code, "trakerr: 1 event left, paused" in said) == (1, True)
    assert shipper("resume", "--all")[0] == 0


def test_the_quota_holds_for_a_paused_backend(app: App, shipper: Run) -> None:
    small = "spooling=shipper.Spooling(segment=4096, quota=8192)"
    with running_app(app, f"{LONG}, {small}") as tell:
        app.wait_for("first")
        shipper("pause", "trakerr")
        tell("[log.error('event %d', n) for n in range(200)] and shipper.flush(60)")

        def said() -> str:
            return shipper("status")[1]

        wait_until(lambda: "given up for trakerr (quota: ERROR" in said(), 10)
        assert "also: trakerr is paused since" in said()
        shipper("resume", "trakerr")
        assert tell("shipper.flush(60)") == "True"


def test_a_backend_is_tried_again_at_once_when_somebody_asks_for_it(
    app: App, service: Service, run: Run, shipper: Run
) -> None:
    service.status = 401
    with running_app(app):
        wait_until(lambda: backend(run, app)["state"] == "unauthorised")

        code, said, _ = shipper("retry-now")
        assert (code, said) == (1, "trakerr does not take events: HTTP 401.\n")
        service.status = 200
        code, said, _ = shipper("retry-now", "trakerr")
        assert (code, said) == (0, "trakerr takes events again.\n")
        app.wait_for("first")
        assert shipper("retry-now")[1] == "Nothing waits for another attempt: the backends take events.\n"


def test_a_backend_that_does_not_exist_is_answered_with_the_nearest_one(app: App, shipper: Run) -> None:
    with running_app(app):
        app.wait_for("first")

        assert shipper("pause", "traker")[::2] == (
            1,
            "shipper: there is no backend 'traker'; did you mean trakerr?\n",
        )
        assert shipper("pause")[::2] == (2, "shipper: say which: trakerr, or --all\n")


def test_a_logger_gets_its_level_in_all_processes_and_back(app: App, shipper: Run) -> None:
    with running_app(app) as tell:
        tell("log.setLevel('WARNING')")
        app.wait_for("first")
        source = (
            "(pid := os.fork()) or (log.error('child'), [time.sleep(0.01) for _ in iter(lambda: "
            "log.isEnabledFor(10), True)], log.debug('debug of the child'), shipper.flush(60), os._exit(0))"
        )
        pid = tell(source)

        assert "is DEBUG for 10 min" in shipper("level", "app=DEBUG", "--for", "10m")[1]
        app.wait_for("debug of the child")
        assert tell(f"os.waitpid({pid}, 0)[1]") == "0"
        wait_until(lambda: tell("log.level") == "10")
        assert "The level of the logger 'app' is DEBUG" in shipper("status")[1]

        assert shipper("level", "--reset")[0] == 0
        wait_until(lambda: tell("log.level") == "30")
        assert shipper("level")[1].startswith("No level is set")


def test_a_drain_waits_for_what_was_logged_before_it_and_says_what_is_left(
    app: App, service: Service, run: Run, shipper: Run
) -> None:
    service.status = 503
    retries = "retry=shipper.Retry(initial=0.1, maximum=0.1), grace=60"
    with running_app(app, retries) as tell:
        log_some(tell, "a", "b")
        wait_until(lambda: (backend(run, app)["state"], backend(run, app)["left"]) == ("retrying", 3), 20)

        code, said, _ = shipper("drain", "--timeout", "0.1")
        assert (code, "trakerr: 3 events left, retrying: HTTP 503" in said) == (3, True)
        service.status = 200
        code, said, _ = shipper("drain", "--timeout", "2m")

        assert (code, said.startswith("test: everything that was logged is delivered to trakerr (")) == (0, True)
        assert set(app.messages()) == {"first", "a", "b"}


def test_an_app_is_forgotten_only_when_nothing_of_it_runs_or_waits(app: App, service: Service, shipper: Run) -> None:
    service.status = 503
    with running_app(app, "grace=0.1"):
        app.wait_for_shipper()
        assert "its shipper process runs (pid " in shipper("forget", "--yes", "--discard")[2]
        memory = Path(Spool(str(app.spool)).overflow)
    app.wait_for_end(30)

    code, _, said = shipper("forget", "--yes")
    assert (code, "test has 1 event for trakerr that is not delivered" in said) == (1, True)
    assert shipper("forget", "--discard")[0] == 2  # stdin is no terminal, so the command can't ask for a yes
    assert app.spool.exists()
    assert shipper("forget", "--yes", "--discard")[0] == 0
    assert holds(lambda: not app.spool.exists() and not memory.exists())
    app.spool.mkdir(mode=0o700)


def test_what_is_for_apps_with_a_journal_is_refused_for_a_relay(place: Path, run: Run) -> None:
    make_spool(place / "relay", {**STATUS, "app": "relay", "relay": {"stream": "logs", "durable": "relay"}})

    for command in (("pause", "trakerr"), ("drain",), ("level", "DEBUG")):
        code, said, trouble = run(*command, "--app", "relay")
        assert (code, said) == (1, "")
        assert trouble.startswith(f"shipper: relay is a relay, and `shipper {command[0]}` is for apps with a journal")


def test_a_drain_of_an_app_that_has_never_run_is_not_said_to_be_delivered(place: Path, run: Run) -> None:
    make_spool(place / "checkout")

    code, said, _ = run("drain", "--app", "checkout")

    assert (code, "no shipper process runs" in said) == (1, True)
