"""Applications that close all descriptors, as daemons do: nothing gets into their files, every event arrives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.application.supervision.exit_watcher import ProcessExitWatcher

from ..support.apps import App, shippers_of
from ..support.forks import in_a_child
from ..support.servers import Server
from ..support.waiting import pass_time, wait_until


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


DAEMONISE = """
    def daemonise():
        if os.fork():
            os.wait()
            sys.exit()
        os.setsid()
        if os.fork():
            os._exit(0)
        os.closerange(0, 4096)
        assert os.open(os.devnull, os.O_RDWR) == 0
        os.dup(0), os.dup(0)
"""
CLOSE = """
    def daemonise():
        os.closerange(3, 4096)
"""


@pytest.mark.parametrize("files", [0, 40])
@pytest.mark.parametrize("how", [DAEMONISE, CLOSE], ids=["double fork", "same process"])
def test_a_daemon_loses_nothing_and_writes_into_none_of_its_files(
    app: App, tmp_path: Path, how: str, files: int
) -> None:
    body = f"""
    begin()
    log.info("before")
    daemonise()
    opened = [open({str(tmp_path)!r} + f"/data{{n}}", "wb", buffering=0) for n in range({files})]
    for n in range(50):
        log.info("after %d", n)
        time.sleep(0.01)
    report = shipper.stop(10)
    open({str(tmp_path)!r} + "/report", "w").write(f"{{report.flushed}} {{report.dropped}} {{report.waiting}}\\n")
    """

    app.run(how + body)

    app.wait_for("before", *(f"after {n}" for n in range(50)), timeout=30)
    report = tmp_path / "report"
    wait_until(lambda: report.exists() and report.read_text().endswith("\n"), 30)
    assert report.read_text() == "True {} 0\n"
    assert sum(path.stat().st_size for path in tmp_path.glob("data*")) == 0
    wait_until(lambda: not shippers_of(app.spool), 30, "the end of the shipper process")


def test_a_database_of_a_daemon_stays_whole(app: App, tmp_path: Path) -> None:
    done = app.run(f"""
        import sqlite3
        begin()
        os.closerange(3, 4096)
        databases = [sqlite3.connect({str(tmp_path)!r} + f"/{{n}}.db") for n in range(8)]
        for number, each in enumerate(databases):
            each.execute("create table t (a)")
            log.info("line %d", number)
            each.commit()
        print([each.execute("pragma integrity_check").fetchone()[0] for each in databases])
    """)

    app.wait_for(*(f"line {n}" for n in range(8)))
    assert done.stdout == f"{['ok'] * 8}\n"


def test_a_daemon_that_logs_nothing_keeps_one_shipper_process(app: App) -> None:
    """The application opens the pipe again without an event; else each shipper process would end without a writer."""
    with app.running(
        "sh",
        "-c",
        f"""exec "$0" {app.write('''
begin()
log.info("before")
assert shipper.flush(60)
os.closerange(3, 4096)
time.sleep(300)
''')}""",
        __import__("sys").executable,
    ):
        app.wait_for("before", timeout=30)
        wait_until(lambda: _has_writer(app.spool / "queue"), 30, "the pipe to be open again")
        wait_until(lambda: _keeps_its_process(app), 30, "a shipper process that stays")


def _keeps_its_process(app: App) -> bool:
    """Whether the shipper process is the same after 2 s; one that ends just as the pipe is opened is replaced."""
    pid = app.pid()
    pass_time(2.0)
    return app.pid() == pid != 0


def _has_writer(queue: Path) -> bool:
    links = []
    for process in os.listdir("/proc"):
        folder = f"/proc/{process}/fd"
        if process.isdigit() and os.access(folder, os.R_OK):
            for name in os.listdir(folder):
                try:
                    if os.readlink(f"{folder}/{name}") == str(queue) and int(name) > 256:
                        links.append(name)
                except OSError:
                    continue
    return bool(links)


def test_a_watcher_whose_descriptors_were_closed_writes_into_no_file(spool: Path) -> None:
    def work() -> None:
        watcher = ProcessExitWatcher()
        assert watcher._eventfd is not None
        number = watcher._eventfd.number
        os.closerange(3, 4096)
        os.dup2(os.open(spool / "data", os.O_RDWR | os.O_CREAT), number)
        watcher.wake()
        watcher.wait_for_exit(os.getppid())
        watcher.close()
        os.fstat(number)

    assert in_a_child(work) == 0
    assert (spool / "data").stat().st_size == 0
