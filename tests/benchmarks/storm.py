"""The same random kills against the standard library's queue, loguru and shipper.

    python -m tests.benchmarks.storm [--seconds 8] [--seed N] [--only stdlib loguru shipper] [--json FILE]

Four workers log numbered records; each notes, in a file of its own, every record whose logging call has returned.
Meanwhile workers, and the consuming process where there is one, get SIGKILL at random moments (the seed is printed)
and are started again at once. Afterwards the noted records are compared with those that arrived, and a fresh worker
logs one more record: does it still arrive? Each step has a time limit; a process that exceeds it is killed and
counted as hung.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import logging.handlers
import multiprocessing as mp
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .children import shipper_pid

CONTENDERS = ("stdlib", "loguru", "shipper")
WORKERS = 4
BURST = 20  # records that a worker logs without a pause
PAUSE = 0.005  # seconds between two bursts
BETWEEN_KILLS = (0.05, 0.20)  # seconds
CONSUMER_SHARE = 0.25  # of the kills, where there is a consumer
PARTING = 3.0  # seconds that workers have to end in after the storm
SETTLING = 5.0  # seconds without a new arrival after which the wait ends
FRESH = 5.0  # seconds in which the record after the storm has to arrive
HARD = 60.0  # seconds after the end of the kills until the whole run is killed

_FORK = mp.get_context("fork")


class Result(NamedTuple):
    contender: str
    kills_of_workers: int
    kills_of_consumers: int
    emitted: int  # logging calls that returned
    arrived: int  # of the ``emitted`` records
    extra: int  # arrived, although the process was killed before it noted the call's return
    works: bool  # whether a record of a fresh worker arrived afterwards
    hung: int  # workers that did not end when they were told to, and had to be killed

    @property
    def lost(self) -> int:
        return self.emitted - self.arrived


class Contender(Protocol):
    """What is tested: how a worker logs, and its consuming process, if there is one."""

    def log(self, text: str) -> None: ...
    def consumer(self) -> int | None:
        """The pid to kill, or None."""
        ...

    def revive(self) -> None:
        """Start the consumer again, unless the contender does so itself."""

    def end(self) -> None: ...


class Stdlib:
    """`QueueHandler` → `multiprocessing.Queue` → `QueueListener` in a process of its own, as the cookbook has it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "arrived"
        self._queue: Any = _FORK.Queue()
        self._logger = logging.getLogger("storm")
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._logger.addHandler(logging.handlers.QueueHandler(self._queue))
        self._consumer = self._start()

    def _start(self) -> BaseProcess:
        process = _FORK.Process(target=self._consume, daemon=True)
        process.start()
        return process

    def _consume(self) -> None:
        listener = logging.handlers.QueueListener(self._queue, _FileHandler(self._path))
        listener.start()
        while True:
            signal.pause()

    def log(self, text: str) -> None:
        self._logger.info("%s", text)

    def consumer(self) -> int | None:
        return self._consumer.pid

    def revive(self) -> None:
        self._consumer.join(1.0)
        self._consumer = self._start()

    def end(self) -> None:
        self._consumer.kill()


class Loguru:
    """`logger.add(sink, enqueue=True)`: its consumer is a thread of the process that called `add`."""

    def __init__(self, folder: Path) -> None:
        self._fd = _open(folder / "arrived")
        self._logger: Any = importlib.import_module("loguru").logger
        self._logger.remove()
        self._logger.add(self._sink, enqueue=True, format="{message}", context="fork")

    def _sink(self, message: str) -> None:
        os.write(self._fd, message.encode())

    def log(self, text: str) -> None:
        self._logger.info("{}", text)

    def consumer(self) -> int | None:
        return None

    def revive(self) -> None:
        """Do nothing: the thread runs in the process that is not killed."""

    def end(self) -> None:
        """Do nothing: `remove` would wait for a lock that a killed worker holds."""


class Shipper:
    """`shipper.start()` with a backend that writes to a file; its supervisor starts the killed process again."""

    def __init__(self, folder: Path) -> None:
        shipper = importlib.import_module("shipper")
        sink = importlib.import_module("tests.benchmarks.sink")
        self._logger = logging.getLogger("storm")
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._spool = str(folder / "spool")
        backend = sink.FileSink(str(folder / "arrived"))
        shipper.start(backend, app="storm", spool=self._spool, logger=self._logger)
        self._stop: Callable[[float], Any] = shipper.stop

    def log(self, text: str) -> None:
        self._logger.info("%s", text)

    def consumer(self) -> int | None:
        return shipper_pid(self._spool) or None

    def revive(self) -> None:
        """Do nothing: shipper's supervisor thread starts it."""

    def end(self) -> None:
        self._stop(10.0)


_KINDS: dict[str, Callable[[Path], Contender]] = {"stdlib": Stdlib, "loguru": Loguru, "shipper": Shipper}


class _FileHandler(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._fd = _open(path)

    def emit(self, record: logging.LogRecord) -> None:
        os.write(self._fd, f"{record.getMessage()}\n".encode())


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


# The application -----------------------------------------------------------------------------------------------------


def _work(contender: Contender, folder: Path, name: str, count: int | None) -> None:
    """Log ``count`` records, or until the file ``ending`` exists; note each one whose call has returned."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    returned = _open(folder / "returned" / name)
    number = 0
    while count is None or number < count:
        label = f"{name}-{number}"
        contender.log(label)
        os.write(returned, f"{label}\n".encode())
        number += 1
        if number % BURST:
            continue
        if (folder / "ending").exists():
            return
        time.sleep(PAUSE)


class _Storm:
    """Runs in a session of its own, whose processes are all killed when it takes too long."""

    def __init__(self, contender: Contender, folder: Path, seed: int) -> None:
        self._contender = contender
        self._folder = folder
        self._random = random.Random(seed)
        self._births = 0
        self._workers = [self._worker() for _ in range(WORKERS)]
        self.kills = {"worker": 0, "consumer": 0}

    def _worker(self, name: str = "w", count: int | None = None) -> BaseProcess:
        self._births += 1
        arguments = (self._contender, self._folder, f"{name}{self._births}", count)
        process = _FORK.Process(target=_work, args=arguments, daemon=True)
        process.start()
        return process

    def blow(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (pause := self._random.uniform(*BETWEEN_KILLS)) < end - time.monotonic():
            time.sleep(pause)
            consumer = self._contender.consumer()
            if consumer is not None and self._random.random() < CONSUMER_SHARE:
                self._kill_consumer(consumer)
            else:
                self._kill_worker(self._random.randrange(WORKERS))

    def _kill_consumer(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.kills["consumer"] += 1
        self._contender.revive()

    def _kill_worker(self, place: int) -> None:
        self._workers[place].kill()
        self._workers[place].join()
        self._workers[place] = self._worker()
        self.kills["worker"] += 1

    def calm(self) -> int:
        """Tell the workers to end, kill those that don't, and return how many were killed."""
        (self._folder / "ending").touch()
        deadline = time.monotonic() + PARTING
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        hung = [worker for worker in self._workers if worker.is_alive()]
        for worker in hung:
            worker.kill()
            worker.join()
        return len(hung)

    def wait_for_arrivals(self) -> None:
        """Wait until every noted record has arrived, or `SETTLING` seconds without a new one."""
        size, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLING:
            now = (self._folder / "arrived").stat().st_size if (self._folder / "arrived").exists() else 0
            if now != size:
                size, since = now, time.monotonic()
                if not _returned(self._folder) - _arrived(self._folder):
                    return
            time.sleep(0.05)

    def still_works(self) -> bool:
        (self._folder / "ending").unlink()
        fresh = self._worker("fresh", count=1)
        deadline = time.monotonic() + FRESH
        while time.monotonic() < deadline:
            if f"fresh{self._births}-0" in _arrived(self._folder):
                break
            time.sleep(0.02)
        else:
            fresh.kill()
            return False
        fresh.join(1.0)
        return True


def _returned(folder: Path) -> set[str]:
    return {line for path in (folder / "returned").iterdir() for line in path.read_text().splitlines()}


def _arrived(folder: Path) -> set[str]:
    return set((folder / "arrived").read_text(errors="replace").splitlines())


def _application(kind: str, folder: Path, seconds: float, seed: int) -> None:
    (folder / "returned").mkdir()
    (folder / "arrived").touch()
    contender = _KINDS[kind](folder)
    storm = _Storm(contender, folder, seed)
    storm.blow(seconds)
    _tell(folder, {"kills": storm.kills})
    hung = storm.calm()
    storm.wait_for_arrivals()
    _tell(folder, {"kills": storm.kills, "hung": hung, "emitted": sorted(_returned(folder))})
    works = storm.still_works()
    _tell(folder, {"kills": storm.kills, "hung": hung, "emitted": sorted(_returned(folder)), "works": works})
    contender.end()
    os._exit(0)  # a normal exit would wait for queue locks that killed workers hold


def _tell(folder: Path, what: dict[str, Any]) -> None:
    beside = folder / "told.new"
    beside.write_text(json.dumps(what))
    beside.rename(folder / "told")


# The driver ----------------------------------------------------------------------------------------------------------


def storm(kind: str, seconds: float, seed: int) -> Result:
    """Run one storm against one contender, in a session of its own that is killed at the end."""
    with _folder() as folder:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.storm",
            "--inside",
            kind,
            str(folder),
            str(seconds),
            str(seed),
        ]
        process = subprocess.Popen(command, start_new_session=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds + HARD)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return _result(kind, folder)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result(kind: str, folder: Path) -> Result:
    told: dict[str, Any] = json.loads((folder / "told").read_text()) if (folder / "told").exists() else {}
    emitted = set(told["emitted"]) if "emitted" in told else _returned(folder)
    emitted = {label for label in emitted if not label.startswith("fresh")}
    arrived = {label for label in _arrived(folder) if label.startswith("w")}
    kills = told.get("kills", {})
    return Result(
        contender=kind,
        kills_of_workers=kills.get("worker", 0),
        kills_of_consumers=kills.get("consumer", 0),
        emitted=len(emitted),
        arrived=len(emitted & arrived),
        extra=len(arrived - emitted),
        works=bool(told.get("works", False)),
        hung=int(told.get("hung", WORKERS)),
    )


def table(results: list[Result]) -> str:
    head = ("", "kills: workers", "consumer", "emitted", "arrived", "lost", "hung workers", "works afterwards")
    rows = [
        (
            one.contender,
            str(one.kills_of_workers),
            str(one.kills_of_consumers) if one.contender != "loguru" else "none there",
            f"{one.emitted:,}",
            f"{one.arrived:,}",
            f"{one.lost:,}",
            str(one.hung),
            "yes" if one.works else "NO",
        )
        for one in results
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="storm", description="the same kill storm against three ways to log")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long workers are killed (8)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and victims; printed when not given")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, metavar="CONTENDER")
    parser.add_argument("--json", type=Path, default=None, help="a file for the numbers")
    parser.add_argument("--inside", nargs=4, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        kind, folder, seconds, seed = options.inside
        _application(kind, Path(folder), float(seconds), int(seed))
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:g} s each, {WORKERS} workers", flush=True)
    results = [storm(kind, options.seconds, seed) for kind in options.only]
    print(table(results))
    if options.json is not None:
        told = [{**one._asdict(), "lost": one.lost} for one in results]
        options.json.write_text(json.dumps({"seed": seed, "seconds": options.seconds, "results": told}, indent=1))
    return 0 if all(one.lost == 0 and one.works for one in results if one.contender == "shipper") else 1


if __name__ == "__main__":
    sys.exit(main())
