"""The fixtures for applications' tests, shipping that is switched off, and a backend for development."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import shipper
from shipper.application.diversion import current_diversion, end_diversion
from shipper.application.lifecycle import current
from shipper.backends.console import Console
from shipper.backends.protocol import AppContext
from shipper.event.exceptions import capture_exceptions
from shipper.event.model import Event
from shipper.integrations.pytest import ShippedEvents
from shipper.receiver import Receiver
from shipper.trakerr import TrakerrClient

from ..support.waiting import PATIENCE

log = logging.getLogger("orders")

TESTS = """
import logging
import shipper

def pay(number):
    shipper.start(shipper.Trakerr("key", level="INFO"), shipper.JKool("token"), app="shop")
    logging.getLogger("orders").error("order %d: password=hunter2", number, extra={"order": number})

def test_pay(shipper_events):
    pay(17)
    assert shipper_events.messages == ["order 17: password=[redacted]"]
    (body,) = shipper_events.bodies(shipper.Trakerr("key"))
    assert body["logLevel"] == "error"
    (body,) = shipper_events.bodies(shipper.JKool("token"))
    assert body["severity"] == "ERROR"

def test_nothing_is_left_of_the_other_test(shipper_events):
    assert len(shipper_events) == 0

def test_the_receiver(shipper_receiver):
    assert shipper_receiver.counts()["trakerr"]["events"] == 0
    shipper_receiver.fail("trakerr", status=503)
"""


@pytest.fixture
def shipper_events() -> Iterator[ShippedEvents]:
    shipped = ShippedEvents()
    yield shipped
    end_diversion()


@pytest.fixture
def switched_off() -> Iterator[None]:
    yield
    end_diversion()


def test_the_fixtures_work_in_the_tests_of_an_application(tmp_path: Path) -> None:
    done = run_tests(tmp_path)

    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_the_fixtures_use_a_receiver_that_runs_already(tmp_path: Path) -> None:
    with Receiver() as receiver:
        event = {"apiKey": "key", "logLevel": "info", "eventMessage": "of an earlier test"}
        requests.post(f"{receiver.trakerr_url}/events", json=event, timeout=PATIENCE)

        done = run_tests(tmp_path, "--shipper-receiver", receiver.page_url)

        assert "3 passed" in done.stdout, done.stdout + done.stderr
        assert receiver.events() == []
        assert requests.post(f"{receiver.trakerr_url}/events", json=event, timeout=PATIENCE).status_code == 200


def run_tests(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_shop.py").write_text(TESTS)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-p", "shipper.integrations.pytest", *options, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # an installed package loads its plugin itself
        capture_output=True,
        text=True,
    )


def test_start_begins_no_process_and_the_clients_ship_into_the_fixture(shipper_events: ShippedEvents) -> None:
    shipper.start(shipper.Trakerr("key", level=20), app="shop", before_send=lambda e: None if e.level < 40 else e)
    log.info("dropped")
    log.error("kept")
    client = TrakerrClient("key")
    client.send_event_async(client.create_new_app_event("error", "issue", "KeyError", "by the client"))

    assert current() is None
    assert shipper.flush(1)
    assert shipper_events.messages[0] == "kept"
    assert len(shipper_events) == 2
    assert shipper_events.dropped == {"before_send": {"INFO": 1}}
    assert shipper.stop() is None


@pytest.mark.usefixtures("switched_off")
@pytest.mark.parametrize("way", ["keyword", "variable", "client"])
def test_what_is_switched_off_starts_nothing_and_keeps_nothing(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "keyword":
        monkeypatch.setenv("SHIPPER_ENABLED", "0")
    if way == "client":
        TrakerrClient("key").log({"eventmessage": "hello"})
    else:
        shipper.start(shipper.Trakerr("key"), enabled=False if way == "keyword" else None)
    log.error("hello")

    assert current() is None
    diversion = current_diversion()
    assert diversion is not None
    assert diversion.is_off
    assert shipper.flush(1)


def test_a_later_start_ships_again(spool: Path) -> None:
    shipper.start(shipper.Trakerr("key"), enabled=False)
    try:
        shipper.start(shipper.Trakerr("key", url="http://127.0.0.1:9/"), app="test", spool=spool, enabled=True)
        assert current() is not None
        assert current_diversion() is None
    finally:
        shipper.stop(0)


@pytest.mark.usefixtures("switched_off")
def test_without_a_key_a_development_stage_says_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    shipper.start(when_unconfigured="disable")

    assert current_diversion() is not None
    with pytest.raises(shipper.ConfigurationError, match="SHIPPER_TRAKERR_API_KEY"):
        shipper.start()
    with pytest.raises(shipper.ConfigurationError, match="when_unconfigured"):
        shipper.start(when_unconfigured="whatever")


CONTEXT = AppContext("shop", "/", "h", "127.0.0.1", lambda time: None)


def test_the_console_writes_a_line_per_event_and_its_traceback(tmp_path: Path) -> None:
    try:
        raise ValueError("no such order")
    except ValueError as error:
        exceptions = capture_exceptions(error)
    console = Console(str(tmp_path / "log"))
    console.open(CONTEXT)

    one = Event(time=1_700_000_000.5, level_name="ERROR", logger="shop", message="failed", extra={"order": 17})
    assert console.send([one, Event(level_name="INFO", message="bad", exceptions=exceptions)]) == [None, None]
    console.close()
    console.close()

    first, second, *rest = (tmp_path / "log").read_text().splitlines()
    assert first.endswith('ERROR    shop: failed {"order": 17}')
    assert second.endswith("INFO     root: bad")
    assert rest[-1] == "ValueError: no such order"


def test_the_console_is_the_terminal_of_the_application() -> None:
    script = "import os, shipper; print(shipper.Console().path == os.ttyname(2))"
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert done.stdout == "True\n"


def test_without_a_terminal_the_console_wants_a_path() -> None:
    script = "import shipper\ntry: shipper.Console()\nexcept shipper.ConfigurationError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True)

    assert "give the path of a file" in done.stdout


def test_a_closed_terminal_is_no_reason_to_lose_an_event(tmp_path: Path) -> None:
    console = Console(str(tmp_path / "missing" / "log"))
    console.open(CONTEXT)

    (answer,) = console.send([Event(message="hello")])

    assert isinstance(answer, shipper.RetryableError)
