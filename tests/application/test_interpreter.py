"""Which program runs the shipper process; frozen applications, whose `sys.executable` is the application itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import HEAD, App
from ..support.servers import Server
from ..support.waiting import PATIENCE

FREEZE = """
import os, sys
open(os.environ["TEST_STARTS"], "a").write("started\\n")
sys.frozen = True
sys.executable = os.environ["TEST_PROGRAM"]
import shipper
"""
"""First lines of a script that looks like a frozen application: `sys.executable` is a program that runs this script."""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        made.environment["TEST_PROGRAM"] = str(tmp_path / "shop")
        made.environment["TEST_STARTS"] = str(tmp_path / "starts")
        yield made
        made.wait_for_end()


def run_frozen(app: App, first: str, then: str) -> subprocess.CompletedProcess[str]:
    script = app.folder / "frozen.py"
    script.write_text("\n".join([FREEZE, first, HEAD, then]))
    program = app.folder / "shop"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    return subprocess.run([str(program)], env=app.environment, capture_output=True, text=True, timeout=PATIENCE)


def test_a_frozen_application_is_told_what_to_do_and_is_never_started_again(app: App) -> None:
    done = run_frozen(app, "", "begin()")

    assert "ConfigurationError: python" in done.stderr
    assert "shipper.run_if_shipper()" in done.stderr
    assert "python=" in done.stderr
    assert (app.folder / "starts").read_text() == "started\n"


def test_a_frozen_application_may_be_its_own_shipper_process(app: App) -> None:
    done = run_frozen(app, "shipper.run_if_shipper()", "begin(); log.error('x'); print(shipper.stop(30).flushed)")

    assert (done.stdout, done.stderr) == ("True\n", "")
    assert app.messages() == ["x"]
    assert (app.folder / "starts").read_text() == "started\n" * 2


def test_a_frozen_application_may_name_an_interpreter(app: App) -> None:
    app.environment["TEST_PYTHON"] = sys.executable
    start = "begin(python=os.environ['TEST_PYTHON'])"

    done = run_frozen(app, "", f"{start}; log.error('x'); print(shipper.stop(30).flushed)")

    assert (done.stdout, done.stderr) == ("True\n", "")
    assert app.messages() == ["x"]


def test_a_program_unpacked_by_a_parent_stays_its_child(app: App) -> None:
    """PyInstaller's one-file mode: the parent removes the program's files when its child ends."""
    done = run_frozen(app, "sys._MEIPASS = '/unpacked'; shipper.run_if_shipper()", """
begin()
log.error("x")
assert shipper.flush(60)
pid = shipper.status().pid
print(int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]) == os.getpid())
print(shipper.stop(30).flushed)
""")  # fmt: skip

    assert done.stdout == "True\nTrue\n"
    assert app.messages() == ["x"]


@pytest.mark.parametrize("executable", ["/usr/sbin/uwsgi", "", None])
def test_a_program_that_embeds_python_uses_the_interpreter_beside_it(app: App, executable: str | None) -> None:
    app.run(f"sys.executable = {executable!r}; begin(); log.error('x'); assert shipper.stop(60).flushed")

    assert app.messages() == ["x"]


def test_without_any_interpreter_the_program_itself_is_not_started(app: App) -> None:
    done = app.run("""
        sys.executable, sys.prefix, sys.exec_prefix, os.environ["PATH"] = "/bin/true", "/none", "/none", "/none"
        try:
            begin()
        except shipper.ConfigurationError as error:
            print(error)
    """)

    assert "python=" in done.stdout
    assert not (app.spool / "lock").exists()


def test_without_psutil_events_are_delivered_and_have_no_load_figures(app: App) -> None:
    (app.folder / "psutil.py").write_text("raise ImportError('not for this machine')\n")
    app.run("begin(); log.error('x'); assert shipper.stop(60).flushed")

    assert app.messages() == ["x"]
    assert b"contextCpuPercentage" not in app.server.bodies[0]
