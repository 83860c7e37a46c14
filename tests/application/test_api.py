"""start, stop, flush and status, in this process, with a real shipper process and a real server."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shipper
from shipper import ConfigurationError, Event, Trakerr
from shipper.application.capture.handler import QueueHandler
from shipper.application.lifecycle import current
from shipper.spool.layout import Spool

from ..support.apps import App
from ..support.servers import HANG, Reply, Server
from ..support.stderr import forget_warnings
from ..support.waiting import PATIENCE, wait_until

LOG = logging.getLogger("test of the app")


@pytest.fixture(autouse=True)
def level() -> None:
    LOG.setLevel(logging.DEBUG)


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        shipper.stop(PATIENCE)
        made.wait_for_end()


def begin(where: App, **more: Any) -> None:
    backend = Trakerr("key", url=where.server.url, level=0)
    shipper.start(backend, **{"app": "test", "spool": where.spool, "logger": LOG, **more})


def test_what_is_logged_arrives_and_the_report_says_so(app: App) -> None:
    begin(app)
    LOG.info("order %d paid", 17)

    report = shipper.stop(PATIENCE)

    assert report is not None
    assert (report.flushed, report.emitted, report.dropped) == (True, 1, {})
    assert report.left == {"trakerr": 0}
    assert app.messages() == ["order 17 paid"]


def test_the_first_event_has_the_load_of_the_machine(app: App) -> None:
    with app.running(sys.executable, "-c", "while True: pass"):
        begin(app)
        LOG.info("x")
        shipper.stop(PATIENCE)

    assert json.loads(app.server.requests[0].body)["contextCpuPercentage"] > 0


LEAN = """
import logging, sys, shipper
shipper.start(shipper.Trakerr("key", url=sys.argv[1]), app="lean", spool=sys.argv[2])
logging.error("order %d failed", 17, extra={"amount": 12.5})
print(*set(sys.argv[3:]) & sys.modules.keys())
shipper.stop()
"""


UNNEEDED = (
    *("grp", "importlib.metadata", "multiprocessing", "shutil", "tempfile", "termios"),
    *("shipper.backends.http_json.settings", "shipper.backends.otlp.settings", "shipper.journal.sequences"),
)


def test_a_worker_that_ships_loads_nothing_that_it_does_not_need(app: App) -> None:
    """Nor do variables load what is not meant by any of them."""
    variables = {"SHIPPER_TRAKERR_API_KEY": "key", "SHIPPER_BATCHING_MAX_AGE": "0.5"}
    command = [sys.executable, "-c", LEAN, app.server.url, str(app.spool), *UNNEEDED]
    told = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=PATIENCE, check=True
    )

    assert told.stdout.split() == []
    assert [json.loads(each.body)["eventMessage"] for each in app.server.requests] == ["order 17 failed"]


def test_a_second_start_changes_nothing(app: App) -> None:
    begin(app)
    pid, first = app.wait_for_shipper(), current()

    begin(app)

    assert current() is first
    assert app.pid() == pid
    assert len([handler for handler in LOG.handlers if isinstance(handler, QueueHandler)]) == 1


def test_stop_may_be_called_twice_and_before_any_start(app: App) -> None:
    assert shipper.stop() is None
    begin(app)

    assert shipper.stop(PATIENCE) is not None
    assert shipper.stop(PATIENCE) is None
    assert LOG.handlers == []


def test_a_new_start_after_a_stop_ships_again(app: App) -> None:
    for round in ("one", "two", "three"):
        begin(app)
        LOG.info(round)
        shipper.stop(PATIENCE)

    assert app.messages() == ["one", "two", "three"]
    assert set(app.ids().values()) == {1}


def test_changed_settings_replace_the_process_and_keep_the_journal(app: App) -> None:
    begin(app)
    LOG.info("before")
    assert shipper.flush(PATIENCE)
    pid = app.wait_for_shipper()

    begin(app, grace=7.0)
    LOG.info("after")

    assert shipper.flush(PATIENCE)
    assert app.wait_for_shipper(other_than=pid)
    assert app.messages() == ["before", "after"]
    assert shipper.status().journaled == 2


@pytest.mark.parametrize("text", ['{"marks": []}', '{"marks": 7, "ledger": [], "backends": [7]}', "{"])
def test_a_damaged_status_file_does_not_raise_into_the_application(app: App, text: str) -> None:
    place = Spool(str(app.spool))
    place.prepare()
    Path(place.status).write_text(text)
    begin(app)
    LOG.info("x")

    assert shipper.status().app == "test"
    assert shipper.flush(0) is False or app.messages() == ["x"]
    report = shipper.stop(PATIENCE)

    assert report is not None
    assert report.flushed
    assert app.messages() == ["x"]


def test_flush_waits_for_delivery_and_keeps_its_deadline(spool: Path, tmp_path: Path) -> None:
    with Server(lambda request: Reply(503) if len(server.requests) < 3 else None) as server:
        app = App(server, spool, tmp_path)
        begin(app, retry=shipper.Retry(initial=0.01, maximum=0.1))
        LOG.info("x")

        assert shipper.flush(PATIENCE)
        assert len(server.requests) == 3
        shipper.stop(PATIENCE)
        app.wait_for_end()


def test_flush_is_false_when_nothing_is_delivered(spool: Path, tmp_path: Path) -> None:
    with Server(default=Reply(503)) as server:
        app = App(server, spool, tmp_path)
        begin(app, grace=0.1)
        LOG.info("x")

        assert not shipper.flush(0.3)
        wait_until(lambda: shipper.status().backends[0].state == "retrying")
        status = shipper.status()
        assert (status.running, status.left, status.backends[0].retried > 0) == (True, 1, True)
        assert "503" in status.backends[0].last_error
        report = shipper.stop(0.2)
        assert report is not None
        assert (report.flushed, report.left) == (False, {"trakerr": 1})
        app.wait_for_end()


def test_flush_and_status_without_a_start() -> None:
    assert not shipper.flush(0.1)
    with pytest.raises(ConfigurationError, match="call shipper"):
        shipper.status()


def test_running_stops_at_the_end_of_its_block_whatever_happens(app: App) -> None:
    backend = Trakerr("key", url=app.server.url, level=0)

    def break_in_the_block() -> None:
        with shipper.running(backend, app="test", spool=app.spool, logger=LOG):
            LOG.info("x")
            raise KeyError

    with pytest.raises(KeyError):
        break_in_the_block()

    assert current() is None
    assert app.messages() == ["x"]


def test_a_wrong_timeout_of_a_block_is_told_before_the_block(app: App) -> None:
    backend = Trakerr("key", url=app.server.url, level=0)

    with (
        pytest.raises(ConfigurationError, match="timeout"),
        shipper.running(backend, app="test", spool=app.spool, logger=LOG, timeout=-1),
    ):
        pytest.fail("the block has begun")

    assert current() is None


def test_nothing_is_attached_when_asked_not_to(app: App) -> None:
    begin(app, attach=False)

    assert LOG.handlers == []


def test_a_start_without_attaching_takes_the_handler_away(app: App) -> None:
    begin(app)
    begin(app, attach=False)

    assert LOG.handlers == []


def test_a_start_with_another_logger_takes_the_handler_there(app: App) -> None:
    other = logging.getLogger("another test of the app")
    begin(app)
    begin(app, logger="another test of the app")

    assert LOG.handlers == []
    assert len(other.handlers) == 1
    shipper.stop(PATIENCE)
    assert other.handlers == []


def test_each_backend_has_its_own_level_and_the_handler_has_one(app: App) -> None:
    shipper.start(
        Trakerr("key", url=app.server.url),
        Trakerr("all", url=f"{app.server.url}/all", level=0, name="all"),
        app="test",
        spool=app.spool,
        logger=LOG,
        level="INFO",
    )
    for level in (10, 20, 30):
        LOG.log(level, "at %d", level)
    shipper.stop(PATIENCE)

    arrived = {(request.target, json.loads(request.body)["eventMessage"]) for request in app.server.requests}
    assert arrived == {("/events", "at 30"), ("/all/events", "at 20"), ("/all/events", "at 30")}


def test_a_start_with_other_settings_says_which(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    forget_warnings()

    def said() -> list[str]:
        lines = [line for line in capfd.readouterr().err.splitlines() if "with other settings" in line]
        return sorted(name for line in lines for name in line.rpartition(": ")[2].split(", "))

    def begin_again(**more: Any) -> list[str]:
        begin(app, before_send=lambda event: event, **more)
        return said()

    assert begin_again() == []
    assert begin_again() == []  # `before_send` is another function with the same code
    assert begin_again(grace=7.0) == ["grace"]
    forget_warnings()
    shipper.start(
        Trakerr("secret-2", url=app.server.url), Trakerr("new", name="new"), app="test", spool=app.spool, logger=LOG
    )
    assert said() == ["before_send", "grace", "new (added)", "trakerr.api_key", "trakerr.level"]


def test_before_send_may_change_and_drop_and_what_it_breaks_is_dropped_and_counted(app: App) -> None:
    def before_send(event: Event) -> Event | None:
        if event.message == "drop":
            return None
        if event.message == "break":
            raise ValueError("broken")
        event.message = event.message.upper()
        return event

    begin(app, before_send=before_send)
    for message in ("keep", "drop", "break"):
        LOG.warning(message)
    report = shipper.stop(PATIENCE)

    assert report is not None
    assert app.messages() == ["KEEP"]
    assert (report.emitted, report.dropped) == (3, {"before_send": {"WARNING": 2}})


@pytest.mark.parametrize("result", ["text", 7, {}, object()], ids=type)
def test_what_before_send_makes_that_is_no_event_is_dropped_and_counted(app: App, result: Any) -> None:
    begin(app, before_send=lambda event: result)
    LOG.warning("x")
    report = shipper.stop(PATIENCE)

    assert report is not None
    assert report.dropped == {"before_send": {"WARNING": 1}}
    assert app.messages() == []


def test_context_is_called_for_every_record_and_may_fail(app: App) -> None:
    answers: list[Callable[[], dict[str, object]]] = [lambda: {"request": "r-1"}, lambda: {"no": 1 / 0}]
    begin(app, context=lambda: answers.pop(0)())
    LOG.info("first")
    LOG.info("second")
    shipper.stop(PATIENCE)

    first, second = (body.decode() for body in app.server.bodies)
    assert "r-1" in first
    assert "second" in second


def test_a_record_that_two_of_our_handlers_get_is_shipped_once(app: App) -> None:
    begin(app)
    extra = [QueueHandler(), QueueHandler(route=("trakerr",)), QueueHandler(route="trakerr")]
    child = LOG.getChild("child")
    child.addHandler(extra[0])
    for handler in extra[1:]:
        LOG.addHandler(handler)
    child.info("once")
    for handler in extra[1:]:
        LOG.removeHandler(handler)
    child.removeHandler(extra[0])
    shipper.stop(PATIENCE)

    assert len(app.server.bodies) == 1


def test_other_handlers_may_pickle_a_record_for_a_machine_without_shipper(app: App) -> None:
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    keep = Keep()
    begin(app)
    LOG.addHandler(keep)
    LOG.info("x")
    LOG.removeHandler(keep)

    pickled = pickle.dumps(records[0].__dict__)

    assert b"shipper." not in pickled


def test_dict_config_makes_our_handler_and_early_records_arrive(app: App) -> None:
    done = app.run("""
        import logging.config
        logging.config.dictConfig({
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"ship": {"class": "shipper.QueueHandler", "level": "INFO", "route": ["trakerr"]}},
            "root": {"handlers": ["ship"], "level": "DEBUG"},
        })
        (handler,) = logging.getLogger().handlers
        log.debug("too low")
        log.info("early")
        begin(attach=False)
        log.info("later")
        shipper.stop(60)
        print(type(handler) is shipper.QueueHandler, handler.route)
    """)

    assert done.stdout == "True ('trakerr',)\n"
    assert app.messages() == ["early", "later"]


def test_records_after_stop_are_counted_also_by_the_next_process(app: App) -> None:
    done = app.run("""
        logging.getLogger().addHandler(shipper.QueueHandler())
        begin(attach=False)
        app = shipper.application.lifecycle.current()
        shipper.stop(60)
        log.error("after")
        print(app.queue.drops)
    """)
    app.wait_for_end()
    assert done.stdout.strip() == "{'after_stop': {'ERROR': 1}}"

    begin(app)
    wait_until(lambda: shipper.status().dropped == {"after_stop": {"ERROR": 1}})


def test_too_many_early_records_are_counted(app: App) -> None:
    script = """
        log.addHandler(shipper.QueueHandler()); log.setLevel(10)
        for n in range(1003):
            log.info("early %d", n)
        log.error("one more")
        begin(attach=False)
        report = shipper.stop(60)
        print(report.flushed, report.emitted, report.dropped)
    """
    done = app.run(script)

    assert done.stdout.strip() == "True 1004 {'not_started': {'INFO': 3, 'ERROR': 1}}"
    app.wait_for(*(f"early {n}" for n in range(1000)))


LEVELS = """
    before = logging.getLogger().level
    {first}
    begin(); during = logging.getLogger().level
    begin(grace=5.0); again = logging.getLogger().level
    {then}
    logging.getLogger().info("info")
    shipper.stop(60)
    print(before, during, again, logging.getLogger().level)
"""


@pytest.mark.parametrize(
    ("first", "then", "levels", "arrives"),
    [
        ("", "", "30 0 0 30", True),
        ("logging.basicConfig()", "", "30 30 30 30", False),
        ("logging.getLogger().setLevel(40)", "", "30 40 40 40", False),
        ("", "logging.getLogger().setLevel(10)", "30 0 0 10", True),
    ],
    ids=["never configured", "configured", "a level", "changed since"],
)
def test_the_root_loggers_level_is_lowered_only_if_it_was_not_configured(
    app: App, first: str, then: str, levels: str, arrives: bool
) -> None:
    done = app.run(LEVELS.format(first=first, then=then))

    assert done.stdout.strip() == levels
    assert ("info" in app.messages()) is arrives


def test_a_spool_of_another_app_is_refused(app: App) -> None:
    begin(app)
    shipper.stop(PATIENCE)

    with pytest.raises(ConfigurationError, match="belongs to the app 'test'"):
        begin(app, app="other")


def test_a_start_that_fails_does_not_stop_the_running_app(app: App) -> None:
    begin(app)
    with pytest.raises(ConfigurationError):
        begin(app, grace=-1)
    LOG.info("still")

    assert shipper.flush(PATIENCE)
    assert app.messages() == ["still"]


def test_logging_never_waits_for_a_stopped_shipper_process(app: App) -> None:
    begin(app)
    pid = app.wait_for_shipper()
    LOG.info("first")
    assert shipper.flush(PATIENCE)
    os.kill(pid, 19)
    try:
        for n in range(3000):
            LOG.info("%d %s", n, "x" * 500)
    finally:
        os.kill(pid, 18)

    assert shipper.flush(PATIENCE)
    assert len(app.messages()) == 3001


def test_stop_keeps_its_deadline_while_a_server_does_not_answer(spool: Path, tmp_path: Path) -> None:
    with Server(default=HANG) as server:
        app = App(server, spool, tmp_path)
        begin(app, grace=0.1)
        LOG.info("x")
        report = shipper.stop(0.3)

        assert report is not None
        assert not report.flushed
        app.wait_for_end(15)
