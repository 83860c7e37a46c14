"""`shipper replay` beside a running application: the events of a time range are sent once more, with their ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from ..support.apps import App
from ..support.servers import Server
from ..support.waiting import PATIENCE, wait_until
from .conftest import Run

EVENTS = 300
SPOOLING = "shipper.Spooling(segment=16384, quota=65536, keep='1h')"


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        pid = made.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            made.wait_for_end()


@contextmanager
def logging_app(app: App, source: str = "") -> Iterator[Popen[str]]:
    """Run an application that has logged and flushed its events, and goes on until the end of the block."""
    source = f"""
        begin(spooling={SPOOLING})
        {source or f"for n in range({EVENTS}): log.warning('event %d', n)"}
        shipper.flush(60)
        print("logged", flush=True)
        sys.stdin.read()
        shipper.stop()
    """
    with app.running(sys.executable, str(app.write(source)), stdin=True) as process:
        assert process.stdout is not None
        while "logged" not in process.stdout.readline():
            assert process.poll() is None
        yield process


def arrivals(server: Server) -> Counter[tuple[str, str]]:
    """Return how often each event arrived, by its id and its text."""
    found: Counter[tuple[str, str]] = Counter()
    for request in list(server.requests):
        text = request.body.partition(b'"eventMessage": "')[2].partition(b'"')[0].decode()
        found[request.headers["idempotency-key"], text] += 1
    return found


def replay(app: App, run: Run, *options: str) -> tuple[int, str, str]:
    return run("replay", "--spool", str(app.spool), "--backend", "trakerr", "--since", "1h", *options)


def test_a_stretch_arrives_once_more_with_the_same_ids_while_the_process_runs(app: App, run: Run) -> None:
    with logging_app(app):
        before = arrivals(app.server)
        assert len(before) == EVENTS
        assert replay(app, run, "--dry-run")[:2] == (0, f"{EVENTS} events for trakerr: would be sent again.\n")

        code, out, _ = replay(app, run)

        assert (code, out) == (0, f"{EVENTS} events for trakerr: delivered now, with the same id as before.\n")
        twice = Counter(dict.fromkeys(before, 2))
        wait_until(lambda: arrivals(app.server) == twice, 30)
        again = replay(app, run)
        assert again[0] == 0
        assert f"{EVENTS} events left out: sent again before" in again[1]
        assert "No event for trakerr is sent again" in again[1]
    assert arrivals(app.server) == twice


def test_kills_of_the_command_and_of_the_shipper_process_double_and_lose_nothing(app: App) -> None:
    """An event may arrive once more for each time that the shipper process was killed while sending it."""
    with logging_app(app):
        before = arrivals(app.server)
        command = [sys.executable, "-m", "shipper.cli", "replay", "--spool", str(app.spool), "--backend", "trakerr"]
        killed = 0
        for round_ in range(4):
            with subprocess.Popen([*command, "--since", "1h"], stdout=subprocess.PIPE, text=True) as process:
                if round_ < 3:
                    killed = app.wait_for_shipper(other_than=killed, timeout=20)
                    seen = len(app.server.requests)
                    wait_until(lambda seen=seen: len(app.server.requests) > seen or process.poll() is not None, 20)  # type: ignore[misc]
                    process.kill()
                    os.kill(killed, signal.SIGKILL)
                assert process.stdout is not None
                out = process.stdout.read()
                process.wait(PATIENCE)
        assert out

        def is_complete() -> bool:
            return all(times >= 2 for times in arrivals(app.server).values())

        wait_until(is_complete, 40)
        found = arrivals(app.server)
    assert set(found) == set(before)


def test_what_waits_for_delivery_is_not_sent_twice(app: App, run: Run) -> None:
    with logging_app(app, "log.warning('first')"):
        pass
    app.wait_for_end(20)
    source = "shipper.start(shipper.Trakerr('k', url='http://127.0.0.1:9/v1', level=0), "
    source += f"app='test', spool=os.environ['TEST_SPOOL'], grace=0.1, spooling={SPOOLING}); "
    app.run(f"""
        {source}
        for n in range(5): log.warning("waits %d", n)
        while shipper.status().journaled < 6: time.sleep(0.02)
        shipper.stop(1)
    """)
    app.wait_for_end(20)

    code, out, _ = replay(app, run)

    assert code == 0
    assert "1 event for trakerr: delivered when the application is started again" in out
    assert "5 events left out: not delivered to trakerr yet" in out
    with logging_app(app, "log.warning('last')"):
        wait_until(lambda: sorted(arrivals(app.server).values()) == [1] * 6 + [2], 30)


def test_without_a_process_no_more_is_handed_over_than_the_journal_has_room_for(app: App, run: Run) -> None:
    """More would make the quota drop events; repeated with a running process, the command continues."""
    with logging_app(app, "for n in range(400): log.warning('event %d %s', n, 'x' * 200), n % 50 or shipper.flush(60)"):
        before = arrivals(app.server)
    app.wait_for_end(20)
    assert len(before) == 400

    code, out, err = replay(app, run)
    assert (code, "start the application, then repeat this" in err) == (3, True)
    assert "left out" not in out

    with logging_app(app, "log.warning('last')"):
        assert replay(app, run)[0] == 0
        wait_until(lambda: {times for (_, text), times in arrivals(app.server).items() if text != "last"} == {2}, 40)
    assert {each for each in arrivals(app.server) if each[1] != "last"} == set(before)


def test_another_address_gets_the_stretch_once_and_the_app_s_own_gets_nothing(
    app: App, run: Run, tmp_path: Path
) -> None:
    with logging_app(app), Server() as other, pytest.MonkeyPatch.context() as environment:
        before = arrivals(app.server)
        environment.setenv("SHIPPER_TRAKERR_API_KEY", "another-key")
        environment.setenv("SHIPPER_TRAKERR_LEVEL", "INFO")

        code, out, err = replay(app, run, "--to", other.url)

        assert (code, err) == (0, "")
        assert "Everything that was handed over is delivered." in out
        assert arrivals(other) == before
        assert b"another-key" in other.bodies[0]
        assert replay(app, run, "--to", other.url)[0] == 0
        assert arrivals(other) == before
        assert arrivals(app.server) == before


def test_another_address_that_does_not_answer_gets_the_rest_with_the_next_command(app: App, run: Run) -> None:
    with logging_app(app), Server() as other, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHIPPER_TRAKERR_API_KEY", "another-key")
        command = [sys.executable, "-m", "shipper.cli", "replay", "--spool", str(app.spool), "--backend", "trakerr"]
        with subprocess.Popen([*command, "--since", "1h", "--to", other.url]) as process:
            wait_until(lambda: len(other.requests) > 20, 20)
            process.send_signal(signal.SIGKILL)

        assert replay(app, run, "--to", other.url)[0] == 0

        assert set(arrivals(other)) == set(arrivals(app.server))


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--backend", "nosuch"), 1, "there is no backend nosuch; there are: trakerr"),
        (("--until", "2h"), 2, "--since is not before --until"),
        (("--to", "http://127.0.0.1:9"), 2, "SHIPPER_TRAKERR_API_KEY"),
        (("--since", "0s"), 1, "no event was logged in this time"),
    ],
)
def test_what_can_not_be_done_is_told(app: App, run: Run, options: tuple[str, ...], code: int, said: str) -> None:
    with logging_app(app, "log.warning('one')"):
        found, _, err = replay(app, run, *options)

    assert (found, said in err) == (code, True), err
