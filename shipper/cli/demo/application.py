"""The demo's application: a main process that starts shipper and forks four workers, which log at a steady rate.

It reads commands from stdin, one per line, and answers on stdout:

    (at the start)   → "ready"             the workers log
    "kill"           → "killed PID PID"    a worker got SIGKILL, and another one has replaced it
    "stop"           → "stopped {…}"       the workers have ended, and `shipper.stop()` has reported
    end of file        the demo has ended: the application ends too

Each worker has a ledger, a file: one record's name per line, written after the logging call returned.
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
from typing import Any

import shipper

WORKERS = 4
LATE = 1.0  # seconds after its time that a worker may still log
LINE = 10
"""Bytes of a line in a ledger: ``WW-NNNNNN`` (worker, number) and the line's end."""


@dataclass(frozen=True)
class Task:
    """The application's only argument, as JSON."""

    trakerr_url: str
    jkool_url: str
    spool: str
    ledgers: str  # the folder for them
    records: int  # all workers together
    seconds: float  # ... in this time
    stop_timeout: float
    servers: str = ""  # of NATS: publish to them, not to the services
    first_worker: int = 0

    def as_text(self) -> str:
        return json.dumps(asdict(self))


class CardRefused(Exception):
    """The error of the demo's orders."""


def log_order(name: str, number: int) -> None:
    """Log one record; the kind depends on the number. Every message ends with ``#name``."""
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
    """Log ``records`` in ``seconds``, as evenly as possible; fewer on a slow machine."""
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
    """The forked workers of the main process."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._context = multiprocessing.get_context("fork")
        self._started = time.monotonic()
        self._all: list[BaseProcess] = []

    def start(self) -> None:
        for _ in range(WORKERS):
            self._fork(self._task.records // WORKERS, self._task.seconds)

    def _fork(self, records: int, seconds: float) -> BaseProcess:
        number = self._task.first_worker + len(self._all)
        worker = self._context.Process(target=work, args=(number, self._task.ledgers, records, seconds))
        worker.start()
        self._all.append(worker)
        return worker

    def replace_one(self) -> tuple[int, int]:
        """Kill the newest worker with SIGKILL, and fork another for the rest of the time; return the pids of both."""
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
    """The main process, from start to end. ``text`` is a Task as JSON."""
    task = Task(**json.loads(text))
    shipper.start(
        *_backends(task),
        app="demo",
        spool=task.spool,
        retry=shipper.Retry(initial=0.2, maximum=1.0),
        grace=task.stop_timeout,
    )
    workers = Workers(task)
    workers.start()
    _answer("ready")
    for line in sys.stdin:
        if line == "kill\n":
            _answer("killed {} {}".format(*workers.replace_one()))
        elif line == "stop\n":
            workers.join()
            _answer(f"stopped {json.dumps(_reported(shipper.stop(task.stop_timeout)))}")
            return
    workers.end()
    shipper.stop(0)


def _backends(task: Task) -> list[Any]:
    if task.servers:
        return [shipper.JetStream(task.servers, timeout=2.0)]
    return [
        shipper.Trakerr("demo-key", url=task.trakerr_url, level=logging.NOTSET),
        shipper.JKool("demo-token", url=task.jkool_url, level=logging.NOTSET),
    ]


def _reported(report: shipper.Report | None) -> dict[str, object]:
    return {} if report is None else {"flushed": report.flushed, "left": dict(report.left)}


def _answer(line: str) -> None:
    print(line, flush=True)
