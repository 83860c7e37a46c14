"""`shipper dead` beside a running application: dead letters are listed, shown, replayed and deleted."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from shipper.spool.layout import Spool

from ..support.apps import App
from ..support.servers import Reply, Request, Server
from ..support.waiting import wait_until
from .conftest import Run


class Strict:
    """A service that rejects events with "bad" in them while ``is_strict`` is true."""

    def __init__(self) -> None:
        self.is_strict = True

    def __call__(self, request: Request) -> Reply:
        return Reply(400, body=b'{"error": "no such field"}') if self.is_strict and b"bad" in request.body else Reply()


@pytest.fixture
def service() -> Strict:
    return Strict()


@pytest.fixture
def app(spool: Path, tmp_path: Path, service: Strict) -> Iterator[App]:
    with Server(service) as server:
        made = App(server, spool, tmp_path)
        yield made
        pid = made.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            made.wait_for_end()


@contextmanager
def logging_app(app: App, *messages: str) -> Iterator[Popen[str]]:
    # The service accepts one event first: if it rejected all events, none would become a dead letter.
    source = f"""
        begin()
        log.error("the first one")
        shipper.flush(60)
        for message in {list(messages)!r}:
            log.error(message)
        print("logged", flush=True)
        sys.stdin.read()
        shipper.stop()
    """
    with app.running(sys.executable, str(app.write(source)), stdin=True) as process:
        assert process.stdout is not None
        while "logged" not in process.stdout.readline():
            assert process.poll() is None
        yield process


def letters(app: App) -> list[dict[str, object]]:
    path = Path(Spool(str(app.spool)).dead) / "trakerr.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def first_arrivals(app: App, text: bytes) -> list[str]:
    """Return the event id of each request that contains ``text``."""
    return [request.headers["idempotency-key"] for request in list(app.server.requests) if text in request.body]


def test_letters_are_listed_and_shown(app: App, run: Run) -> None:
    with logging_app(app, "good one", "bad one", "bad two"):
        wait_until(lambda: len(letters(app)) == 2, 20)
        at = ("--spool", str(app.spool))

        code, out, _ = run("dead", "list", *at)
        assert code == 0
        lines = out.splitlines()
        assert lines[0].split() == ["id", "backend", "rejected", "reason", "message"]
        assert [line.split()[-2:] for line in lines[1:]] == [["bad", "one"], ["bad", "two"]]
        assert all("HTTP 400" in line for line in lines[1:])

        id = lines[1].split()[0]
        shown = json.loads(run("dead", "show", id, *at)[1])
        assert (shown["event"]["message"], shown["body"]) == ("bad one", '{"error": "no such field"}')

        assert "bad two" in run("dead", "list", "--match", "two", *at)[1]
        assert "bad one" not in run("dead", "list", "--match", "two", *at)[1]
        assert run("dead", "list", "--backend", "jkool", *at)[0] == 1
        assert run("dead", "show", "ffff", *at)[0] == 1


def test_replayed_letters_arrive_once_with_the_same_id_while_the_process_runs(
    app: App, service: Strict, run: Run
) -> None:
    with logging_app(app, "bad one", "bad two"):
        wait_until(lambda: len(letters(app)) == 2, 20)
        before = {text: set(first_arrivals(app, text)) for text in (b"bad one", b"bad two")}
        service.is_strict = False

        code, out, _ = run("dead", "replay", "--spool", str(app.spool))

        assert (code, out) == (0, "2 events for trakerr: delivered now, with the same id as before.\n")
        wait_until(lambda: all(len(first_arrivals(app, text)) == 2 for text in before), 20)
        assert {text: set(first_arrivals(app, text)) for text in before} == before
        assert run("dead", "replay", "--spool", str(app.spool))[:2] == (0, "")
        wait_until(lambda: backend_of(app, run)["delivered"] == 3, 20)
        backend = backend_of(app, run)
        assert (backend["dead"], backend["dead_letters"]) == (2, 0)
        assert run("status", "--spool", str(app.spool), "--check")[0] == 0


def backend_of(app: App, run: Run) -> dict[str, int]:
    (found,) = json.loads(run("status", "--spool", str(app.spool), "--json")[1])
    (backend,) = found["backends"]
    assert isinstance(backend, dict)
    return backend


def test_a_letter_that_is_rejected_again_is_a_letter_again_with_the_same_id(app: App, run: Run) -> None:
    with logging_app(app, "bad one"):
        wait_until(lambda: len(letters(app)) == 1, 20)
        (first,) = letters(app)

        assert run("dead", "replay", "--spool", str(app.spool))[0] == 0

        wait_until(lambda: [letter["time"] for letter in letters(app)] not in ([], [first["time"]]), 20)
        assert [letter["id"] for letter in letters(app)] == [first["id"]]


def test_letters_that_are_replayed_while_no_process_runs_arrive_at_the_next_start(
    app: App, service: Strict, run: Run
) -> None:
    with logging_app(app, "bad one") as process:
        wait_until(lambda: len(letters(app)) == 1, 20)
        process.communicate("")
    app.wait_for_end(20)
    service.is_strict = False

    code, out, _ = run("dead", "replay", "--spool", str(app.spool))

    assert (code, out) == (
        0,
        "1 event for trakerr: delivered when the application is started again, with the same id as before.\n",
    )
    with logging_app(app, "good one"):
        wait_until(lambda: len(first_arrivals(app, b"bad one")) == 2, 20)
    assert len(set(first_arrivals(app, b"bad one"))) == 1


def test_letters_of_a_backend_that_is_not_configured_stay(app: App, run: Run) -> None:
    with logging_app(app, "bad one"):
        wait_until(lambda: len(letters(app)) == 1, 20)
        path = Path(Spool(str(app.spool)).dead) / "trakerr.ndjson"
        path.rename(path.with_name("other.ndjson"))

        code, _, err = run("dead", "replay", "--spool", str(app.spool))

    assert code == 1
    assert "other is not configured" in err
    assert path.with_name("other.ndjson").stat().st_size > 0


def test_purge_deletes_what_is_chosen_and_never_all_by_accident(app: App, run: Run) -> None:
    with logging_app(app, "bad one", "bad two"):
        wait_until(lambda: len(letters(app)) == 2, 20)
        at = ("--spool", str(app.spool))

        assert run("dead", "purge", *at)[0] == 2
        assert run("dead", "purge", "--match", "two", *at)[:2] == (0, "1 letter deleted.\n")
        assert "bad one" in run("dead", "list", *at)[1]
        assert run("dead", "purge", "--all", *at)[:2] == (0, "1 letter deleted.\n")
        assert run("dead", "list", *at)[:2] == (0, "")


@pytest.mark.parametrize(("when", "shown"), [("1h", True), ("2026-01-01T00:00", True), ("0s", False)])
def test_since_takes_an_age_or_a_time(app: App, run: Run, when: str, shown: bool) -> None:
    with logging_app(app, "bad one"):
        wait_until(lambda: len(letters(app)) == 1, 20)

        assert ("bad one" in run("dead", "list", "--since", when, "--spool", str(app.spool))[1]) is shown


def test_a_time_that_is_none_is_exit_code_2(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("dead", "list", "--since", "yesterday")

    assert ended.value.code == 2
    assert "'yesterday' is neither an age" in capsys.readouterr().err
