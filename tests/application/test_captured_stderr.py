"""The shipper process keeps its starter's stderr no longer than the starter lives: captured output has to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.servers import Reply, Server
from ..support.waiting import PATIENCE

LIVES_ON = """
begin()
print("ready", flush=True)
sys.stdin.read()
shipper.stop(0.1)
"""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server(default=Reply(401)) as server:
        yield App(server, spool, tmp_path)


@pytest.mark.parametrize("ending", ["shipper.stop(0.1)", "", "os.kill(os.getpid(), 9)"], ids=["stop", "exit", "kill"])
def test_whoever_captures_the_output_of_a_job_waits_for_the_job_alone(app: App, ending: str) -> None:
    """Although the job started the shipper process, which another process of the app still needs."""
    job = app.write(f"""
        begin(grace=0.1)
        log.error("x")
        print("ready", flush=True)
        sys.stdin.readline()
        {ending}
    """, "job.py")  # fmt: skip
    other = app.write(LIVES_ON.replace("begin()", "begin(grace=0.1)"), "other.py")
    captured = subprocess.Popen(
        [sys.executable, str(job)],
        env=app.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert captured.stdout is not None
    assert captured.stdout.readline() == "ready\n"
    shipper = app.wait_for_shipper()
    assert os.readlink(f"/proc/{shipper}/fd/2").startswith("pipe:")

    with app.running(sys.executable, str(other), stdin=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        captured.communicate("\n", timeout=PATIENCE)

        assert app.pid() == shipper
        assert os.readlink(f"/proc/{shipper}/fd/2") == os.devnull
        process.communicate("")
    app.wait_for_end()


def test_warnings_are_on_stderr_while_the_process_that_started_it_lives(app: App) -> None:
    done = app.run("""
        begin(grace=0.1)
        log.error("x")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and shipper.status().backends[0].state != "unauthorised":
            time.sleep(0.05)
    """)

    assert "401" in done.stderr
    app.wait_for_end()
