"""A crash loop of the shipper process is reported once, with its reason, on stderr and in the status."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from shipper.process.status.crashes import LOOP, QUICK_SECONDS, Crashes
from shipper.process.system import log
from shipper.report import read_status
from shipper.spool.files import write_atomically
from shipper.spool.layout import Spool

from ..support.apps import App
from ..support.servers import Server


@pytest.fixture
def place(spool: Path) -> Spool:
    made = Spool(str(spool))
    made.prepare()
    return made


def test_only_a_loop_of_crashes_is_in_the_status(place: Spool) -> None:
    for count in range(1, LOOP + 2):
        Crashes(place.crash).report(ValueError("no such stage"))

        status = read_status(place, "shop")
        assert status.crashes == (count if count >= LOOP else 0)

    assert status.crash_reason == "ValueError: no such stage"


def test_the_first_crash_and_the_loop_are_said_on_stderr_and_the_others_are_not(
    place: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, log.NAME):
        for _ in range(10):
            Crashes(place.crash).report(ValueError("no such stage"))

    on_stderr = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in on_stderr] == ["WARNING", "ERROR"]
    assert "has crashed 3 times in a row: ValueError: no such stage" in on_stderr[1].getMessage()
    assert sum(record.exc_info is not None for record in caplog.records) == 10


def test_processes_that_end_without_a_word_are_a_loop_too(place: Spool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, log.NAME):
        for _ in range(10):
            Crashes(place.crash).note_start()

    assert len(caplog.records) == 1
    status = read_status(place, "shop")
    assert status.crashes == 9
    assert "without an error" in status.crash_reason


def test_a_process_that_is_killed_after_a_while_is_no_crash(place: Spool) -> None:
    for _ in range(10):
        Crashes(place.crash).note_start()
        record = json.loads(Path(place.crash).read_text())
        write_atomically(place.crash, {**record, "at": record["at"] - 2 * QUICK_SECONDS})

    assert read_status(place, "shop").crashes == 0


def test_a_process_that_ends_as_it_should_clears_the_record(place: Spool) -> None:
    for _ in range(LOOP):
        Crashes(place.crash).report(ValueError("no"))

    Crashes(place.crash).clear()

    assert read_status(place, "shop").crashes == 0


def test_a_backend_that_can_not_be_opened_is_a_crash_loop_with_its_reason(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import os\n"
        "from shipper.backends.memory import Memory\n"
        "class Broken(Memory):\n"
        "    def open(self, context):\n"
        "        if os.path.exists(__file__ + '.broken'): raise KeyError('no such printer')\n"
    )
    (tmp_path / "broken.py.broken").write_text("")
    with Server() as server:
        app = App(server, spool, tmp_path)
        done = app.run(
            """
            import broken
            shipper.start(broken.Broken(), app="test", spool=os.environ["TEST_SPOOL"])
            log.info("x")
            deadline = time.monotonic() + 60
            while shipper.status().crashes < 5:
                assert time.monotonic() < deadline, shipper.status()
                time.sleep(0.05)
            print(shipper.status().crash_reason)
            assert not shipper.flush(0.1)
            os.remove(broken.__file__ + ".broken")
            assert shipper.flush(60)
            print(shipper.stop(10).status.backends[0].delivered)
        """,
            timeout=120,
        )
        app.wait_for_end()

    assert done.stdout.splitlines() == ["KeyError: 'no such printer'", "1"]
    assert done.stderr.count("has crashed") == 1
    assert done.stderr.count("no such printer") == 2
    assert "Traceback" not in done.stderr
    assert "Traceback" in (spool / "shipper.log").read_text()
    assert not (spool / "crash.json").exists()
