"""The ledger: what an application logged, against what arrived, is dead, was dropped, or lies in the spool.

Everything is compared as sets of names (each event's own, out of its message) and of ids.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import shipper
from shipper.event.codec import unpack
from shipper.journal.cursors.cursor import Cursor
from shipper.report import Status, read_status
from shipper.spool.files import read_json
from shipper.spool.layout import Spool
from shipper.spool.lock import read_pid, running

from ..support.waiting import scaled, wait_until
from .oracle import NAMED, Oracle

APP = "faults"
SERVICES = ("trakerr", "jkool")


@dataclass(frozen=True)
class Emitted:
    """What the side files say: names whose call began or returned, with the expected id and the level of each."""

    begun: frozenset[str]
    returned: frozenset[str]
    ids: dict[str, str]  # name → token-sequence; correct only if one thread of a process logs
    levels: dict[str, int]


@dataclass(frozen=True)
class Account:
    """What became of the events at one backend, as sets of names."""

    emitted: Emitted
    delivered: frozenset[str]
    dead: frozenset[str]
    spooled: frozenset[str]

    @property
    def missing(self) -> frozenset[str]:
        """Names whose call returned and that are neither delivered, dead nor spooled; dropped ones are among them."""
        return self.emitted.returned - self.delivered - self.dead - self.spooled


class App:
    """A program of `apps.py` in a process of its own, told what to do on stdin."""

    def __init__(self, case: Case, name: str, options: dict[str, Any], *, interpreter: Sequence[str] = ()) -> None:
        environment = {**os.environ, "FAULTS_OPTIONS": json.dumps({**case.options, **options})}
        program = str(Path(__file__).with_name("apps.py"))
        self.errors = case.folder / f"stderr-{time.monotonic_ns()}"
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*(interpreter or (sys.executable, "-W", "error")), program, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
                text=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def order(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Read the next line of its stdout, "" when it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()

    def kill_group(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)

    def end(self, timeout: float = 30.0, code: int | None = 0) -> str:
        """Close its stdin, wait for its end and return its stderr; AssertionError unless it exits with ``code``."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            found = self.process.wait(scaled(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end:\n{self.errors.read_text(errors='replace')}") from None
        stderr = self.errors.read_text(errors="replace")
        if code is not None and found != code:
            raise AssertionError(f"ended with {found}:\n{stderr}")
        return stderr

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Case:
    """One fault case: an oracle with both services, a spool, side files, and the applications that the test starts."""

    def __init__(self, oracle: Oracle, folder: Path, spool: Path) -> None:
        self.oracle = oracle
        self.folder = folder
        self.path = spool
        self.spool = Spool(str(spool))
        self._side = folder / "side"
        self._side.mkdir(exist_ok=True)
        self.options: dict[str, Any] = {
            "spool": str(spool),
            "ledger": str(self._side),
            **{service: oracle.url(service) for service in SERVICES},
        }
        self._apps: list[App] = []
        self._fresh = 0

    # -- applications --------------------------------------------------------------------------------------------------

    def app(self, program: str, *, interpreter: Sequence[str] = (), **options: Any) -> App:
        started = App(self, program, options, interpreter=interpreter)
        self._apps.append(started)
        return started

    def run(self, program: str, *, timeout: float = 30.0, code: int | None = 0, **options: Any) -> str:
        """Run a program to its end; return its stderr."""
        return self.app(program, **options).end(timeout, code)

    def close(self) -> None:
        for app in self._apps:
            app.close()
        pid = self.shipper_pid()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- the shipper process ----------------------------------------------------------------------------------------

    def shipper_pid(self) -> int:
        """Return the pid of the lock's holder; 0 when there is none, or the lock file does not name it yet."""
        return read_pid(self.spool) if running(self.spool) is not None else 0

    def wait_for_shipper(self, timeout: float = 5.0, *, other_than: int = 0) -> int:
        wait_until(lambda: self.shipper_pid() not in (0, other_than), timeout, "a shipper process")
        return self.shipper_pid()

    def wait_for_end(self, timeout: float = 20.0) -> None:
        """Wait until no shipper process of this spool is left."""
        wait_until(lambda: not self.shippers(), timeout, "the end of the shipper process")

    def shippers(self) -> list[psutil.Process]:
        """Every shipper process of this spool, as `ps` would show it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                command = process.cmdline()
                if f"shipper: {APP} {self.path}" in command:
                    found.append(process)
        return found

    @property
    def status(self) -> Status:
        return read_status(self.spool, APP)

    # -- what became of everything ------------------------------------------------------------

    @property
    def emitted(self) -> Emitted:
        begun, returned = set(), set()
        ids, levels = {}, {}
        for file in self._side.iterdir():
            for line in file.read_text().splitlines():
                sign, name, *rest = line.split()
                if sign == "+":
                    begun.add(name)
                    levels[name] = int(rest[-1]) if rest else logging.INFO
                    if len(rest) == 2:
                        ids[name] = rest[0]
                if sign == "=":
                    returned.add(name)
        return Emitted(frozenset(begun), frozenset(returned), ids, levels)

    def account(self, service: str) -> Account:
        return Account(
            self.emitted,
            frozenset(self.oracle.accepted(service)),
            frozenset(self._dead(service)),
            frozenset(self._spooled(service)),
        )

    def _dead(self, service: str) -> Iterator[str]:
        path = Path(self.spool.dead) / f"{service}.ndjson"
        if not path.exists():
            return
        for line in path.read_text().splitlines():
            yield from NAMED.findall(json.loads(line)["event"]["message"])

    def _spooled(self, service: str) -> Iterator[str]:
        """Yield the names of the events after the backend's cursor, without a change of the cursor's file."""
        cursor = Cursor(str(Path(self.spool.cursors) / f"{service}.json"), self.spool.journal)
        while entries := cursor.read(1000, 1 << 30):
            for entry in entries:
                yield from NAMED.findall(unpack(entry.payload or b"", entry.id).message)
                cursor.settle(entry, "seen")
            cursor.commit(save=False)
        cursor.close()

    def check(self, *, fresh: bool = True, doubles: int | None = None) -> None:
        """Check that nothing is missing, each event has one id of its own, and only logged events arrived.

        ``fresh``: check first that a new record flows. ``doubles``: how many may have come again, None: any number.
        """
        if fresh:
            self.check_that_a_record_flows()
        self.check_incomplete()
        for service in SERVICES:
            account = self.account(service)
            missing = account.missing
            assert not missing, f"{service}: {len(missing)} missing, as {sorted(missing)[:5]}\n{self.story()}"
            ids = self.oracle.ids_of(service)
            several = {name: each for name, each in ids.items() if len(each) > 1}
            assert not several, f"{service}: several ids for one event: {several}"
            logged = account.emitted.begun | {f"fresh-{number}" for number in range(1, self._fresh + 1)}
            assert set(ids) <= logged, f"{service}: never logged: {sorted(set(ids) - logged)[:5]}"
            assert len(set().union(*ids.values())) == len(ids), f"{service}: one id for several events"
            if doubles is not None:
                more = sum(self.oracle.accepted(service).values()) - len(account.delivered)
                assert more <= doubles, f"{service}: {more} doubles"

    def check_incomplete(self) -> None:
        """Check that no more events were given up as incomplete than there are calls that did not return."""
        emitted = self.emitted
        unreturned = len(emitted.begun - emitted.returned)
        for backend in self.status.backends:
            incomplete = sum(backend.dropped.get("incomplete", {}).values())
            assert incomplete <= unreturned, f"{backend.name}: {incomplete} incomplete, {unreturned} calls were killed"

    def check_that_a_record_flows(self, timeout: float = 15.0, **settings: Any) -> None:
        """Start, log one record, and check that both services got it; what was left in the spool is delivered too."""
        self._fresh += 1
        name = f"fresh-{self._fresh}"
        logger = logging.Logger("fresh")
        place: dict[str, Any] = {"app": APP, "spool": self.path, "logger": logger}
        with shipper.running(*self.backends(), timeout=scaled(timeout), **place, **settings):
            logger.info("id:%s", name)
            flushed = shipper.flush(scaled(timeout))
            assert flushed, f"a fresh record does not flow\n{self.story()}"
        for service in SERVICES:
            assert self.oracle.accepted(service)[name] == 1, f"{service}: a fresh record did not arrive"
        self.wait_for_end()

    def backends(self) -> tuple[shipper.Trakerr, shipper.JKool]:
        return (
            shipper.Trakerr("key", url=self.options["trakerr"], level=0),
            shipper.JKool("token", url=self.options["jkool"], level=0),
        )

    def dropped(self) -> frozenset[str]:
        """Return the names whose call returned and whose ids are not in the account's file: they were not journaled."""
        seen = (read_json(self.spool.ledger) or {}).get("processes", {})
        lost = set()
        for name, id in self.emitted.ids.items():
            token, _, number = id.partition("-")
            ranges = seen.get(token, {}).get("ranges", [])
            if name in self.emitted.returned and not any(first <= int(number) < end for first, end in ranges):
                lost.add(name)
        return frozenset(lost)

    def story(self) -> str:
        """Return status, log and the applications' stderr, for the report of a failed test."""
        texts = [f"status: {self.status}"]
        for path in (Path(self.spool.log), *(app.errors for app in self._apps)):
            with contextlib.suppress(OSError):
                texts.append(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}")
        return "\n".join(texts)
