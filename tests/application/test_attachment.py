"""The handler that start() attaches, and code that configures logging later and removes it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.servers import Server

REMOVED = "nothing is shipped from the logger"

RECONFIGURE = {
    "dictConfig": """
        import logging.config
        logging.config.dictConfig({
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "root": {"level": "INFO", "handlers": ["console"]},
        })
    """,
    "fileConfig": """
        import io, logging.config
        logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=
[logger_root]
level=INFO
handlers=console
[handler_console]
class=StreamHandler
args=(sys.stdout,)
'''), disable_existing_loggers=False)
    """,
    "basicConfig(force=True)": "logging.basicConfig(force=True, level=logging.INFO, stream=sys.stdout)",
    "handlers = []": "logging.getLogger().handlers = []",
    "removeHandler": "logging.getLogger().removeHandler(logging.getLogger().handlers[0])",
}


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def source(*parts: str) -> str:
    return "\n".join(line[8:] if line.startswith(" " * 8) else line for part in parts for line in part.splitlines())


@pytest.mark.parametrize("configure", RECONFIGURE.values(), ids=RECONFIGURE)
def test_start_attaches_again_after_other_code_has_removed_the_handler(app: App, configure: str) -> None:
    done = app.run(source("begin()", configure, "begin()", "log.warning('again')", "report = shipper.stop(10)",
                          "print(report.attached)"))  # fmt: skip

    assert done.stdout.splitlines()[-1] == "True"
    assert app.messages() == ["again"]


@pytest.mark.parametrize("configure", RECONFIGURE.values(), ids=RECONFIGURE)
def test_a_removed_handler_is_noticed_within_seconds_and_said_once(app: App, configure: str) -> None:
    """On stderr with the remedy, and in `shipper.status()` and the report that `stop` returns."""
    done = app.run(source("begin()", configure, f"""
        deadline = time.monotonic() + 60
        while not shipper.status().detached and time.monotonic() < deadline:
            time.sleep(0.05)
        status = shipper.status()
        print(status.attached, list(status.detached.values()) == ["root"], list(status.detached) == [os.getpid()])
        print(shipper.stop(10).attached, os.listdir({str(app.spool)!r}).count("detached-%d" % os.getpid()))
    """))  # fmt: skip

    assert done.stdout.splitlines()[-2:] == ["False True True", "False 0"]
    lines = [line for line in done.stderr.splitlines() if REMOVED in line]
    assert len(lines) == 1
    assert "shipper.start() again" in lines[0]
    assert "keep_attached=True" in lines[0]


def test_with_keep_attached_the_handler_comes_back(app: App) -> None:
    done = app.run(source("begin(keep_attached=True)", RECONFIGURE["dictConfig"], """
        deadline = time.monotonic() + 60
        while not shipper.status().attached and time.monotonic() < deadline:
            time.sleep(0.05)
        log.warning("back")
        shipper.stop(10)
        print(logging.getLogger().handlers)
    """))  # fmt: skip

    assert app.messages() == ["back"]
    assert "QueueHandler" not in done.stdout.splitlines()[-1]
    assert "attached again" in done.stderr


def test_a_short_program_hears_of_it_when_it_ends(app: App) -> None:
    done = app.run(source("begin()", RECONFIGURE["dictConfig"], "log.warning('lost')"))

    assert len([line for line in done.stderr.splitlines() if REMOVED in line]) == 1


@pytest.mark.parametrize(
    "configure",
    [
        'logging.getLogger().handlers = [shipper.QueueHandler()]',
        "import logging.handlers; h = logging.getLogger().handlers[0]; "
        "logging.getLogger().handlers = [logging.handlers.MemoryHandler(1, target=h)]",
        "logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))",
    ],
    ids=["another of ours", "behind a memory handler", "beside another one"],
)
def test_nothing_is_said_while_records_still_reach_a_handler_of_ours(app: App, configure: str) -> None:
    done = app.run(source("begin()", configure, "log.warning('x')", "print(shipper.stop(10).attached)"))

    assert done.stdout.splitlines()[-1] == "True"
    assert done.stderr == ""
    assert app.messages() == ["x"]


def test_a_logger_that_dictconfig_disables_is_named_with_its_remedy(app: App) -> None:
    done = app.run(source("begin(logger='shop')", """
        import logging.config
        logging.config.dictConfig({"version": 1})
        print(shipper.stop(10).attached)
    """))  # fmt: skip

    assert done.stdout == "False\n"
    assert "disable_existing_loggers=False" in done.stderr


def test_a_forked_worker_that_configures_logging_before_its_first_record_hears_of_it(app: App) -> None:
    """No thread of the worker checks the handler before its first record, and it logs none."""
    done = app.run(source("begin()", "pid = os.fork()", "if pid == 0:", """
            import logging.config
            logging.config.dictConfig({"version": 1, "root": {"handlers": []}})
            deadline = time.monotonic() + 60
            while not shipper.status().detached and time.monotonic() < deadline:
                time.sleep(0.05)
            os._exit(0 if list(shipper.status().detached) == [os.getpid()] else 1)
        print(os.waitpid(pid, 0)[1])
        shipper.stop(10)
    """))  # fmt: skip

    assert done.stdout == "0\n"
    assert REMOVED in done.stderr


def test_the_level_that_the_new_configuration_set_stays(app: App) -> None:
    done = app.run(source("begin()", RECONFIGURE["basicConfig(force=True)"], """
        begin()
        root = logging.getLogger()
        print(root.level)
        shipper.stop(10)
        print(root.level)
    """))  # fmt: skip

    assert done.stdout.splitlines() == ["20", "20"]


def test_a_configured_handler_without_a_start_says_at_exit_how_many_records_it_kept(app: App) -> None:
    done = app.run("""
        log.addHandler(shipper.QueueHandler())
        for number in range(1002):
            log.error("%d", number)
    """)

    (line,) = [line for line in done.stderr.splitlines() if "never called" in line]
    assert line.startswith("shipper: 1002 records")
    assert "shipper.start()" in line


def test_a_forked_child_does_not_speak_of_the_records_of_its_parent(app: App) -> None:
    done = app.run("""
        log.addHandler(shipper.QueueHandler())
        log.error("x")
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        os.waitpid(pid, 0)
        begin(attach=False)
        shipper.stop(10)
    """)

    assert "never called" not in done.stderr
    assert app.messages() == ["x"]


def test_shipper_status_names_a_process_that_ships_nothing(app: App) -> None:
    ready = app.write(source("begin()", "logging.getLogger().handlers = []", """
        while not shipper.status().detached:
            time.sleep(0.05)
        print("ready", flush=True)
        sys.stdin.read()
        shipper.stop(10)
    """), "detached.py")  # fmt: skip

    with app.running(sys.executable, str(ready), stdin=True) as process:
        assert process.stdout is not None
        while "ready" not in process.stdout.readline():
            assert process.poll() is None
        status = [sys.executable, "-m", "shipper.cli", "status", "--spool", str(app.spool)]
        shown = subprocess.run(status, capture_output=True, text=True, timeout=60)
        as_json = subprocess.run([*status, "--json"], capture_output=True, text=True, timeout=60)
        process.communicate("")

    assert f"Process {process.pid} ships nothing" in " ".join(shown.stdout.split())
    assert json.loads(as_json.stdout)[0]["detached"] == {str(process.pid): "root"}
