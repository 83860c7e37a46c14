"""A program starts as root, and becomes another user later: gunicorn --user, setuid."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import shipper
from shipper.spool.owner import set_owner

from ..support.apps import App, shippers_of
from ..support.needs import need
from ..support.servers import Server
from ..support.waiting import wait_until

DROP = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"


PATHS = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
"""Folders in which a system Python finds the packages that the tests import."""


@functools.cache
def python_for_nobody() -> str:
    """Return a Python of this version that user 65534 (nobody) can run, this one if possible; "" if there is none."""
    name = f"python3.{sys.version_info.minor}"
    for python in (sys.executable, *(f"{folder}/{name}" for folder in ("/usr/bin", "/usr/local/bin", "/opt/bin"))):
        with contextlib.suppress(OSError):
            command = [python, "-c", "import msgpack, requests, shipper"]
            if subprocess.run(command, user=65534, env=environment(), capture_output=True).returncode == 0:
                return python
    return ""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), PATHS]))}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An application whose spool is in a folder that other users can enter."""
    need(os.geteuid() == 0, "root")
    if not python_for_nobody():  # not `need`, which fails in CI: nothing is missing that could be installed
        pytest.skip("needs a Python that other users can run")
    folder = Path(tempfile.mkdtemp(prefix="o-", dir="/tmp"))
    folder.chmod(0o755)
    with Server() as server:
        made = App(server, folder / "spool", tmp_path)
        made.interpreter = python_for_nobody()
        made.environment.update(environment(), TEST_URL=server.url, TEST_SPOOL=str(made.spool))
        yield made
        wait_for_end(made)
    shutil.rmtree(folder)


def wait_for_end(app: App) -> None:
    """Wait until no shipper process of the spool is in the process list; only the files' owner can read the lock."""
    wait_until(lambda: not shippers_of(app.spool), 30, "the end of the shipper process")


def test_the_spool_is_made_for_the_user_to_come(app: App) -> None:
    done = app.run(f"""
        begin(owner="nobody")
        log.error("as root")
        assert shipper.flush(60)
        {DROP}
        log.error("as nobody")
        print(shipper.flush(60))
        pid = shipper.status().pid
        print(os.stat(f"/proc/{{pid}}").st_uid)
        os.kill(pid, signal.SIGKILL)
        while shipper.status().pid in (None, pid):
            time.sleep(0.02)
        log.error("after a restart")
        print(shipper.stop(60).flushed)
    """)

    assert done.stdout == "True\n65534\nTrue\n"
    assert done.stderr == ""
    assert app.messages() == ["as root", "as nobody", "after a restart"]
    files = [path for path in [app.spool, *app.spool.rglob("*")] if not path.is_symlink()]
    assert {path.stat().st_uid for path in files} == {65534}


def test_a_worker_that_becomes_the_owner_has_an_overflow_of_its_own(app: App) -> None:
    """The master stays root and supervises; the shipper process is stopped, so the pipe becomes full."""
    done = app.run(f"""
        begin(owner="nobody")
        log.error("as root")
        assert shipper.flush(60)
        master = os.getpid()
        pid = shipper.status().pid
        os.kill(pid, signal.SIGSTOP)
        child = os.fork()
        if child == 0:
            {DROP}
            for number in range(100):
                log.error("%d %s", number, "z" * 50000)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        os.kill(pid, signal.SIGCONT)
        print(shipper.stop(60).flushed)
    """)

    assert done.stdout == "True\n"
    wait_for_end(app)
    app.run("begin(owner='nobody'); assert shipper.stop(60).flushed")
    assert len(app.messages()) == 101


def test_without_an_owner_it_is_said_once_and_nothing_is_waited_for_in_vain(app: App) -> None:
    done = app.run(f"""
        begin()
        log.error("as root")
        assert shipper.flush(60)
        {DROP}
        log.error("as nobody")
        began = time.monotonic()
        print(shipper.flush(30), shipper.flush(30), time.monotonic() - began < 25)
    """)

    assert done.stdout == "False False True\n"
    (line,) = done.stderr.splitlines()  # nothing else is said
    assert "it has changed its user" in line
    assert "owner=" in line
    app.wait_for("as root", "as nobody")


def test_only_root_may_name_another_user_and_it_has_to_exist() -> None:
    backend = shipper.Trakerr("key")
    with pytest.raises(shipper.ConfigurationError, match="owner"):
        shipper.start(backend, owner="nobody-of-that-name", spool="/nonexistent")
    with pytest.raises(shipper.ConfigurationError, match="spool"):
        shipper.start(backend, owner="nobody")
    set_owner("")
