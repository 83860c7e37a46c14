"""The first line of `shipper status` with real failures: it says what is wrong and what to do."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from ..support.apps import App
from ..support.disks import tmpfs
from ..support.servers import Reply, Request, Server
from ..support.waiting import holds, stop_process, wait_until
from .conftest import Run

Shows = Callable[[str, int], None]


class Service:
    """Answers every request with ``reply``, or with what ``reply`` returns for it."""

    def __init__(self) -> None:
        self.reply: Reply | Callable[[Request], Reply] = Reply()

    def __call__(self, request: Request) -> Reply:
        return self.reply if isinstance(self.reply, Reply) else self.reply(request)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def app(spool: Path, tmp_path: Path, service: Service) -> Iterator[App]:
    with Server(service) as server:
        made = App(server, spool, tmp_path)
        yield made
        service.reply = Reply()
        pid = made.pid()
        if pid:
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
            made.wait_for_end()


@contextmanager
def logging_app(app: App, settings: str = "", events: int = 3) -> Iterator[Popen[str]]:
    """An application that has logged some events, and logs one more for each line on its stdin."""
    source = f"""
        begin(retry=shipper.Retry(initial=0.1, maximum=0.2, unauthorised=0.2), grace=2, {settings})
        for n in range({events}):
            log.error("event %d", n)
        print("logged", flush=True)
        for line in sys.stdin:
            log.error("more")
    """
    with app.running(sys.executable, str(app.write(source)), stdin=True) as process:
        assert process.stdout is not None
        while "logged" not in process.stdout.readline():
            assert process.poll() is None
        yield process


@pytest.fixture
def shows(app: App, run: Run) -> Shows:
    """Wait until the first line of the status matches ``pattern``, and `status --check` exits with ``code``."""

    def shows(pattern: str, code: int) -> None:
        shown: list[object] = []

        def matches() -> bool:
            line = "".join(run("status", "--spool", str(app.spool))[1].splitlines()[:1])
            shown[:] = [line, run("status", "--spool", str(app.spool), "--check")[0]]
            return shown[1] == code and re.search(pattern, line) is not None

        assert holds(matches, 20), f"{shown} is not {pattern!r}, {code}"

    return shows


def test_an_app_without_trouble_is_healthy(app: App, shows: Shows) -> None:
    with logging_app(app):
        shows(r"^test: healthy - Everything that came in is delivered\.$", 0)


def test_a_backend_that_answers_503_is_named_with_its_answer(app: App, service: Service, shows: Shows) -> None:
    service.reply = Reply(503)

    with logging_app(app):
        shows(
            r"^test: degraded - trakerr does not take events since \S+ \(\S+ s ago\): HTTP 503\. 3 events wait\. "
            r"Nothing to do unless this stays",
            1,
        )


def test_a_backend_that_cannot_be_reached_is_named_with_the_reason(app: App, shows: Shows) -> None:
    app.environment["TEST_URL"] = "http://127.0.0.1:9"

    with logging_app(app):
        shows(r"^test: degraded - trakerr does not take events since .*refused.* 3 events wait\. Nothing to do", 1)


def test_a_slow_backend_is_named_with_the_age_of_the_oldest_event(app: App, service: Service, shows: Shows) -> None:
    def late(request: Request) -> Reply:
        threading.Event().wait(0.5)
        return Reply()

    service.reply = late
    old = "before_send=lambda event: setattr(event, 'time', event.time - 120) or event"
    old += ", batching=shipper.Batching(max_events=4)"  # the age of the oldest event is known after each batch

    with logging_app(app, old, events=3000):
        shows(r"^test: degraded - trakerr is slow: [\d,]+ events wait, the oldest for \d min\. If this stays", 1)


def test_refused_credentials_are_named_also_when_the_process_has_ended(
    app: App, service: Service, shows: Shows
) -> None:
    service.reply = Reply(401)
    said = (
        r"^test: failing - trakerr refuses the credentials \(HTTP 401\) since .* 3 events wait\. "
        r"Correct SHIPPER_TRAKERR_API_KEY and restart the application"
    )

    with logging_app(app) as process:
        shows(said, 2)
        process.communicate("")

    app.wait_for_end(20)
    shows(said, 2)


def test_a_redirect_is_named_with_its_target(app: App, service: Service, shows: Shows) -> None:
    service.reply = Reply(301, headers={"Location": "https://new.example/api/v1"})

    with logging_app(app):
        shows(
            r"^test: failing - trakerr redirects to https://new\.example/api/v1 since .*, which is not followed\. "
            r"3 events wait\. Set SHIPPER_TRAKERR_URL",
            2,
        )


def test_a_backend_that_refuses_everything_is_named_with_its_url(app: App, service: Service, shows: Shows) -> None:
    service.reply = Reply(404)

    with logging_app(app):
        shows(
            r"^test: failing - trakerr refuses every event \(HTTP 404\) at http://127\.0\.0\.1:\d+/events since .* "
            r"3 events wait\. Check SHIPPER_TRAKERR_URL",
            2,
        )


def test_a_process_that_crashes_again_and_again_is_named_with_its_reason(app: App, shows: Shows) -> None:
    backend = """
        class Broken:
            name, level, max_events, max_in_flight = "broken", 0, 1, 1
            def open(self, context): raise ValueError("no such queue")
            def send(self, events): return [None] * len(events)
            def close(self): pass
    """
    (app.folder / "broken.py").write_text(textwrap.dedent(backend))
    source = """
        import broken
        shipper.start(broken.Broken(), app="test", spool=os.environ["TEST_SPOOL"], grace=1)
        log.error("event")
        print("logged", flush=True)
        sys.stdin.read()
    """

    with app.running(sys.executable, str(app.write(source)), stdin=True):
        shows(
            r"^test: failing - The shipper process has crashed \d+ times in a row: ValueError: no such queue; "
            r"events wait\. See /.*/shipper\.log for the reason, correct it and restart the application",
            2,
        )


def test_what_waits_in_memory_of_a_stopped_process_is_counted(app: App, shows: Shows, run: Run) -> None:
    with logging_app(app) as process:
        at = ("--spool", str(app.spool))

        def number(field: str) -> int:
            return int(json.loads(run("status", "--json", *at)[1])[0][field])

        wait_until(lambda: number("journaled") == 3, 20)
        pid = app.wait_for_shipper()
        stop_process(pid)
        assert process.stdin is not None
        process.stdin.write("more\n" * 100)
        process.stdin.flush()
        wait_until(lambda: number("in_memory") == 100, 20)
        assert "; 100 more in memory, not in the journal yet" in run("status", *at)[1]
        os.kill(pid, signal.SIGCONT)
        shows(r"^test: healthy - Everything", 0)


def test_dead_letters_are_named_with_the_command_that_shows_them(app: App, service: Service, shows: Shows) -> None:
    service.reply = lambda request: Reply(400 if b"event 1" in request.body else 200)

    with logging_app(app):
        shows(
            r"^test: degraded - 1 event was refused by trakerr and is kept as a dead letter\. "
            r"See `shipper dead list --app test`",
            1,
        )


def test_events_given_up_at_the_quota_are_a_failure(app: App, service: Service, shows: Shows) -> None:
    service.reply = Reply(503)
    small = "spooling=shipper.Spooling(segment=4096, quota=8192)"

    with logging_app(app, small, events=300):
        shows(r"^test: failing - \d+ events were given up for trakerr \(quota: ERROR \d+\), the last one at .*QUOTA", 2)


def test_a_full_disk_is_named_until_there_is_room(app: App, shows: Shows) -> None:
    app.spool.chmod(0o700)
    with tmpfs(app.spool, "400k"), logging_app(app) as process:
        app.wait_for("event 2")
        with open(app.spool / "filler", "wb") as filler:
            while True:
                try:
                    os.write(filler.fileno(), b"x" * 4096)
                except OSError:
                    break
        assert process.stdin is not None
        for _ in range(2000):
            process.stdin.write("more\n")
        process.stdin.flush()
        shows(r"^test: degraded - The disk takes no events: No space left on device.* Make room in /", 1)
        (app.spool / "filler").unlink()
        shows(r"^test: healthy", 0)
        process.communicate("")
        app.wait_for_end(20)


def test_a_stopped_process_is_told_from_a_running_one(app: App, shows: Shows) -> None:
    with logging_app(app):
        app.wait_for("event 2")
        pid = app.wait_for_shipper()
        stop_process(pid)
        shows(
            rf"^test: degraded - The shipper process \(pid {pid}\) has written no status for \S+ s: it is stopped "
            rf"\(SIGSTOP\)\. What follows is as old\. Continue it with `kill -CONT {pid}`",
            1,
        )
        os.kill(pid, signal.SIGCONT)
        shows(r"^test: healthy", 0)


def test_a_process_that_was_killed_with_its_application_is_told_from_one_that_ended(
    app: App, service: Service, shows: Shows
) -> None:
    service.reply = Reply(503)

    with logging_app(app) as process:
        shows(r"3 events wait", 1)
        pid = app.wait_for_shipper()
        os.killpg(process.pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        app.wait_for_end()

    shows(r"^test: not running - The shipper process is gone without having finished, .* 3 events wait .* Start the", 3)


def test_an_application_that_has_delivered_everything_and_ended_leaves_nothing_to_do(app: App, shows: Shows) -> None:
    with logging_app(app) as process:
        app.wait_for("event 2")
        process.communicate("")

    app.wait_for_end(20)
    shows(r"^test: not running - No shipper process runs, since .*; everything that came in was delivered\.$", 3)


def test_what_waits_after_the_end_of_the_application_is_counted(app: App, service: Service, shows: Shows) -> None:
    service.reply = Reply(503)

    with logging_app(app) as process:
        process.communicate("")

    app.wait_for_end(30)
    shows(r"^test: not running - No shipper process runs, since .*; 3 events wait for the next start\. Start the", 3)
