"""Small applications in processes of their own, and their events that arrived at a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from shipper.spool.layout import Spool
from shipper.spool.lock import running

from .servers import Server
from .waiting import holds, scaled, wait_until

HEAD = """
import logging, os, shipper, signal, sys, threading, time

def begin(**more):
    settings = dict(app="test", spool=os.environ["TEST_SPOOL"])
    shipper.start(shipper.Trakerr("the-secret-key", url=os.environ["TEST_URL"], level=0), **{**settings, **more})

log = logging.getLogger("app")
"""
"""The beginning of every program; only a call of `begin` starts shipper."""


class App:
    """Where applications run: a server that takes their events, and a spool."""

    def __init__(self, server: Server, spool: Path, folder: Path) -> None:
        self.server = server
        self.spool = spool
        self.folder = folder
        self.interpreter = sys.executable
        self.environment = {**os.environ, "TEST_URL": server.url, "TEST_SPOOL": str(spool)}

    def write(self, source: str, name: str = "app.py") -> Path:
        path = self.folder / name
        path.write_text(HEAD + textwrap.dedent(source))
        return path

    def run(self, source: str, *, timeout: float = 30, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run ``source`` as a script to its end, with captured output; AssertionError unless it exits with ``code``."""
        done = subprocess.run(
            [self.interpreter, str(self.write(source))],
            capture_output=True,
            text=True,
            timeout=scaled(timeout),
            env=self.environment,
        )
        assert done.returncode == code, done.stderr
        return done

    @contextmanager
    def running(self, *command: str, stdin: bool = False, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Run a command in a process group of its own; kill the group after the block if the command still runs."""
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=cwd,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def messages(self) -> list[str]:
        """Return the messages that arrived, in order of arrival, without duplicates."""
        events = (json.loads(body) for body in list(self.server.bodies))
        return list(dict.fromkeys(event["eventMessage"] for event in events))

    def wait_for(self, *messages: str, timeout: float = 15) -> None:
        missing = set(messages)

        def arrived() -> bool:
            missing.difference_update(self.messages())
            return not missing

        assert holds(arrived, timeout), f"did not arrive: {sorted(missing)[:20]}"

    def ids(self) -> Counter[str]:
        """How often each event's id arrived."""
        return Counter(request.headers["idempotency-key"] for request in list(self.server.requests))

    def pid(self) -> int:
        """Return the pid of the shipper process, 0 when none runs."""
        holder = running(Spool(str(self.spool)))
        return holder.pid if holder else 0

    def wait_for_shipper(self, *, other_than: int = 0, timeout: float = 10) -> int:
        found = 0

        def runs() -> bool:
            nonlocal found
            found = self.pid()
            return found not in (0, other_than)

        wait_until(runs, timeout, "a shipper process")
        return found

    def signal_shipper(self, number: int) -> None:
        """Send a signal to the shipper process, if one runs: pid 0 would be this process's group."""
        pid = self.pid()
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait_for_end(self, timeout: float = 10) -> None:
        wait_until(lambda: running(Spool(str(self.spool))) is None, timeout, "the shipper process's end")


def shippers_of(spool: Path) -> list[int]:
    """Return the pids of the shipper processes of a spool, also of those that are still starting."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if any(word.startswith("shipper: ") and word.endswith(str(spool)) for word in command):
            found.append(process.pid)
    return found
