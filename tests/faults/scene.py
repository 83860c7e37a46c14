"""An application in the test's own process, whose real shipper process delivers to an oracle."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import shipper
import shipper.application.lifecycle
from shipper.spool.layout import Spool
from shipper.spool.lock import read_pid, running

from ..support.waiting import holds, scaled, wait_until
from .oracle import NAMED, Oracle

QUICK = shipper.Retry(initial=0.05, maximum=0.2, unauthorised=0.2, max_retry_after=5.0)
APP = "faults"


class Scene:
    """``emitted`` has the name and level of everything that was logged. `close` it; it is a context manager."""

    def __init__(self, spool: Path, oracle: Oracle) -> None:
        self.spool = spool
        self.oracle = oracle
        self.emitted: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        self._numbers = itertools.count()
        self._logger = logging.getLogger("faults.scene")
        self._logger.propagate = False
        self._logger.setLevel(1)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def trakerr(self, service: str, key: str = "right-key", **settings: Any) -> shipper.Trakerr:
        """Return a backend named after a service of the oracle, by default with level 0 and timeouts of scaled 2 s."""
        return shipper.Trakerr(key, name=service, **self._given(service, settings))

    def jkool(self, service: str, token: str = "right-token", **settings: Any) -> shipper.JKool:
        return shipper.JKool(token, name=service, **self._given(service, settings))

    def _given(self, service: str, settings: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.oracle.url(service), "level": 0, "timeout": (scaled(2), scaled(2)), **settings}

    def start(self, *backends: Any, **settings: Any) -> None:
        given: dict[str, Any] = {"retry": QUICK, "batching": shipper.Batching(max_age=0.05), "grace": 1.0, **settings}
        shipper.start(*backends, app=APP, spool=self.spool, logger=self._logger, **given)

    def log(self, text: str = "", level: int = logging.INFO, **kwargs: Any) -> str:
        """Log one record; return its name."""
        name = f"n{next(self._numbers)}"
        self.emitted[name] = level
        app = shipper.application.lifecycle.current()
        if app is not None:
            self._ids[f"{app.queue.token.hex()}-{app.queue.emitted}"] = name
        self._logger.log(level, "id:%s %s", name, text, **kwargs)
        return name

    def log_many(self, count: int, text: str = "") -> list[str]:
        return [self.log(text) for _ in range(count)]

    @property
    def handler(self) -> logging.Handler:
        (handler,) = (each for each in self._logger.handlers if isinstance(each, shipper.QueueHandler))
        return handler

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def place(self) -> Spool:
        return Spool(str(self.spool))

    @property
    def pid(self) -> int:
        """The pid of the shipper process; wait until the lock file names it."""
        wait_until(lambda: running(self.place) and read_pid(self.place), 10, "a shipper process")
        return read_pid(self.place)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)

    def backend(self, name: str) -> shipper.BackendStatus:
        found = {backend.name: backend for backend in shipper.status().backends}
        return found.get(name, shipper.BackendStatus(name))

    def dead(self, backend: str) -> list[dict[str, Any]]:
        """Return the dead letters of a backend."""
        path = self.spool / "dead" / f"{backend}.ndjson"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def missing(self, service: str) -> set[str]:
        """Return the names that were logged and are neither accepted by the service nor dead letters."""
        buried = {found[1] for letter in self.dead(service) if (found := NAMED.search(str(letter["event"])))}
        return self.emitted.keys() - self.oracle.accepted(service).keys() - buried

    def gaps(self) -> set[str]:
        """Return the names that were dropped before the journal: their ids are not in the account's saved file."""
        ledger = json.loads((self.spool / "ledger.json").read_text())
        came = {
            f"{token}-{seq}"
            for token, process in ledger["processes"].items()
            for first, end in process["ranges"]
            for seq in range(first, end)
        }
        return {name for id, name in self._ids.items() if id not in came}

    def all_arrive(self, *services: str, timeout: float = 20.0) -> None:
        """Wait until nothing is missing; AssertionError with the missing names when that takes too long."""
        for service in services:
            if not holds(lambda service=service: not self.missing(service), timeout):  # type: ignore[misc]
                missing = sorted(self.missing(service))
                raise AssertionError(f"{len(missing)} missing at {service}: {missing[:10]} {shipper.status()}")

    def a_fresh_record_flows(self, *services: str, timeout: float = 10.0) -> None:
        app = shipper.application.lifecycle.current()
        assert app is not None
        # After a full disk the overflow may still be full, and would drop the record.
        wait_until(lambda: not app.queue.waiting, timeout, "an overflow with space")
        name = self.log("fresh")
        for service in services:
            wait_until(lambda service=service: self.oracle.accepted(service)[name], timeout, f"{name} at {service}")  # type: ignore[misc]

    def ids_are_the_same_at_every_retry(self, service: str) -> None:
        """Check that each event has one id, and each id one event."""
        ids = self.oracle.ids_of(service)
        assert {name: found for name, found in ids.items() if len(found) != 1} == {}
        assert len({id for found in ids.values() for id in found}) == len(ids)

    # -- the end ------------------------------------------------------------------------------------------------------

    def stop(self, timeout: float = 10.0) -> shipper.Report:
        report = shipper.stop(timeout)
        assert report is not None
        return report

    def ends(self, timeout: float = 10.0) -> None:
        """Wait until no shipper process runs."""
        wait_until(lambda: running(self.place) is None, timeout, "the end of the shipper process")

    def close(self) -> None:
        shipper.stop(0)
        pid = read_pid(self.place)
        if running(self.place) is not None and not holds(lambda: running(self.place) is None, 4) and pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            self.ends()
            shutil.rmtree(self.place.overflow, ignore_errors=True)


def python_with(folder: Path, code: str) -> str:
    """Return a Python for `start(python=…)` that runs ``code`` first; there, ``HERE`` is ``folder``, for flag files."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "sitecustomize.py").write_text(f"HERE = {str(folder)!r}\n{textwrap.dedent(code)}")
    wrapper = folder / "python"
    path = f"{shlex.quote(str(folder))}${{PYTHONPATH:+:$PYTHONPATH}}"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {shlex.quote(sys.executable)} "$@"\n')
    wrapper.chmod(0o700)
    return str(wrapper)


def run_script(folder: Path, code: str, *arguments: str, timeout: float = 30.0, python: str = sys.executable) -> str:
    """Run ``code`` as a program to its end and return its stdout; AssertionError when it fails."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [python, str(file), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(timeout),
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
    return done.stdout


def timed(action: Callable[[], object]) -> float:
    """Call ``action``; return the seconds that it took."""
    import time

    before = time.monotonic()
    action()
    return time.monotonic() - before
