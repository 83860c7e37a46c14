"""The demo's application: a main process that starts shipper and forks four workers, which log at a steady rate.

It is told what to do by lines on stdin and answers by lines on stdout:

    (at once)      → "ready"             the workers log
    "kill"         → "killed PID PID"    a worker got SIGKILL, and another one took its place
    "stop"         → "stopped {…}"       the workers are done, and `shipper.stop()` has reported
    end of file      the demo is gone: so is the application

What a worker has logged stands in its ledger, a file: one number a line, written after the logging call returned.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess

import shipper

WORKERS = 4
LATE = 1.0  # seconds that a worker goes on after its time to log all that it was asked for
LINE = 10
"""Bytes of a line in a ledger: ``WW-NNNNNN`` and its end, worker and number."""


@dataclass(frozen=True)
class Task:
    """What the application is told when it starts."""

    trakerr_url: str
    jkool_url: str
    spool: str
    ledgers: str  # the folder for them
    records: int  # all workers together
    seconds: float  # ... in so many
    stop_timeout: float

    def as_text(self) -> str:
        return json.dumps(asdict(self))


class CardRefused(Exception):
    """What the demo's orders fail with."""


def log_order(name: str, number: int) -> None:
    """One record, of another kind each time; all end with ``#name``."""
    log = logging.getLogger("demo.orders")
    kind = number % 5
    if kind == 0:
        log.debug("looking for order #%s", name)
    elif kind == 1:
        log.info("order paid #%s", name)
    elif kind == 2:
        log.info("order sent #%s", name, extra={"amount": 12.5 * number, "items": ["tea", "cups"], "express": True})
    elif kind == 3:
        log.warning("order is late #%s", name, extra={"days": number % 7})
    else:
        _log_failure(log, name)


def _log_failure(log: logging.Logger, name: str) -> None:
    cards: dict[str, str] = {}
    try:
        try:
            cards["card"]
        except KeyError as error:
            raise CardRefused("no card was given") from error
    except CardRefused:
        log.exception("order failed #%s", name)


def work(worker: int, ledgers: str, records: int, seconds: float) -> None:
    """Log ``records`` in ``seconds``, as evenly as the machine lets us; fewer when it is too slow for that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    ledger = os.open(os.path.join(ledgers, f"{worker:02d}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pause = threading.Event()
    start = time.monotonic()
    for number in range(records):
        ahead = start + seconds * number / records - time.monotonic()
        if ahead > 0:
            pause.wait(ahead)
        if time.monotonic() - start > seconds + LATE or os.getppid() != parent:
            break
        name = f"{worker:02d}-{number:06d}"
        log_order(name, number)
        os.write(ledger, f"{name}\n".encode())


class Workers:
    """The forked children. Belongs to the main process, which ends only what it started."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._context = multiprocessing.get_context("fork")
        self._started = time.monotonic()
        self._all: list[BaseProcess] = []

    def start(self) -> None:
        for _ in range(WORKERS):
            self._fork(self._task.records // WORKERS, self._task.seconds)

    def _fork(self, records: int, seconds: float) -> BaseProcess:
        worker = self._context.Process(target=work, args=(len(self._all), self._task.ledgers, records, seconds))
        worker.start()
        self._all.append(worker)
        return worker

    def replace_one(self) -> tuple[int, int]:
        """SIGKILL the newest, and fork another for what is left of its time: their pids."""
        victim = self._all[-1]
        assert victim.pid is not None
        victim.kill()
        victim.join()
        left = max(self._started + self._task.seconds - time.monotonic(), 0.1)
        share = left / self._task.seconds
        fresh = self._fork(max(1, int(self._task.records // WORKERS * share)), left)
        assert fresh.pid is not None
        return victim.pid, fresh.pid

    def join(self) -> None:
        for worker in self._all:
            worker.join()

    def end(self) -> None:
        for worker in self._all:
            worker.kill()
            worker.join()


def main(text: str) -> None:
    """The main process's life. ``text`` is a Task as text."""
    task = Task(**json.loads(text))
    shipper.start(
        shipper.Trakerr("demo-key", url=task.trakerr_url, level=logging.NOTSET),
        shipper.JKool("demo-token", url=task.jkool_url, level=logging.NOTSET),
        app="demo",
        spool=task.spool,
        retry=shipper.Retry(initial=0.2, maximum=1.0),
        grace=task.stop_timeout,
    )
    workers = Workers(task)
    workers.start()
    _say("ready")
    for line in sys.stdin:
        if line == "kill\n":
            _say("killed {} {}".format(*workers.replace_one()))
        elif line == "stop\n":
            workers.join()
            _say(f"stopped {json.dumps(_reported(shipper.stop(task.stop_timeout)))}")
            return
    workers.end()
    shipper.stop(0)


def _reported(report: shipper.Report | None) -> dict[str, object]:
    return {} if report is None else {"flushed": report.flushed, "left": dict(report.left)}


def _say(line: str) -> None:
    print(line, flush=True)
