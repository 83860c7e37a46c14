"""`shipper run -- command`: a receiver of its own, the command's exit code and signals, and what arrived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from ..support.command import running
from ..support.waiting import PATIENCE

COMMAND = [sys.executable, "-W", "error", "-m", "shipper.cli", "run"]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, env=env
    )


def test_the_events_of_a_command_arrive_at_a_receiver_and_its_output_and_exit_code_are_its_own(tmp_path: Path) -> None:
    source = """
import logging, os, sys, shipper
shipper.start(
    shipper.Trakerr("key-of-the-code"),
    shipper.Http("http://192.0.2.1/some/path", level="CRITICAL"),
    app="shop",
)
logging.error("hello %d\\x1b[2J", 7)
print("output")
sys.exit(3)
"""
    elsewhere = str(tmp_path / "real")

    done = run("--", sys.executable, "-c", source, SHIPPER_SPOOL=elsewhere, HTTP_PROXY="http://127.0.0.1:9")

    assert (done.returncode, done.stdout) == (3, "output\n")
    assert "arrived: 1 event at Trakerr\n" in done.stderr
    assert "error    root: hello 7?[2J\n" in done.stderr
    assert not os.path.exists(elsewhere)


def test_a_signal_reaches_the_command() -> None:
    script = (
        "import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {15}); print('ready', flush=True); "
        "signal.sigwait({15}); sys.exit(9)"
    )
    with subprocess.Popen(
        [*COMMAND, sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE)

    assert process.returncode == 9
    assert "nothing arrived" in said


def test_a_command_that_a_signal_ends_or_that_does_not_exist_has_the_exit_code_of_a_shell() -> None:
    assert run("--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    done = run("no-such-command")
    assert (done.returncode, "no-such-command: not found" in done.stderr) == (127, True)
    assert run().returncode == 2


def test_the_bash_script_completes_commands_options_and_actions(tmp_path: Path) -> None:
    with running("completion", "bash") as process:
        assert process.stdout is not None
        (tmp_path / "completion").write_text(process.stdout.read())
    script = """
        source completion
        complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shipper; echo "${COMPREPLY[@]}"; }
        complete_line shipper stat; complete_line shipper drain --t; complete_line shipper dead re
    """

    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("status\n--timeout\nreplay\n", "")


def test_the_scripts_for_other_shells_know_every_command() -> None:
    for shell in ("zsh", "fish"):
        with running("completion", shell) as process:
            assert process.stdout is not None
            script = process.stdout.read()
        assert all(word in script for word in ("status", "retry-now", "completion"))
