"""What happens in a demo: an application logs, its services fail, processes are killed, and then everything is counted.

What has to arrive is what the workers' ledgers name: every record whose logging call had returned. What did arrive is
what the receiver holds. Both are sets of names, and the demo is good when the second contains the first.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...report import Status, read_status, total
from ...spool.layout import Spool
from .application import WORKERS, Task
from .outcome import SERVICES, Outcome, undelivered
from .process import ApplicationProcess, DemoFailed, end_shipper, shipper_pid
from .progress import LIMIT, Display, Progress

if TYPE_CHECKING:
    from ...receiver import Receiver

CLEARING = 2.0  # of `LIMIT`, seconds to end and remove what was started
OUTAGE = 2.0  # seconds of 503
STOP = 6.0  # seconds that the application's `shipper.stop()` may wait


class Demo:
    """One demo. ``play`` starts the application, breaks things, and counts; afterwards only the receiver is left."""

    def __init__(self, receiver: Receiver, display: Display, records: int, seconds: float, began: float) -> None:
        self._receiver = receiver
        self._display = display
        self._records = records
        self._seconds = seconds
        self._began = began
        self._limit = began + seconds + LIMIT

    def play(self) -> Outcome:
        """Play the demo; return its numbers. DemoFailed when a process does not start or answer in time."""
        folder = Path(tempfile.mkdtemp(prefix="shipper-demo-"))
        spool = Spool(str(folder / "spool"))
        self._ledgers = folder / "ledgers"
        self._ledgers.mkdir()
        self._progress = Progress(self._receiver, self._display, self._ledgers)
        application = ApplicationProcess(folder, self._task(spool))
        try:
            with application:
                self._perform(application, spool)
            # No process writes any more: the shipper process delivers what is left, and ends by itself.
            until = self._limit - CLEARING / 2
            if not self._progress.watch(lambda: not read_status(spool, "demo").running, until=until):
                self._display.line("the time is over, and the shipper process has not ended")
            return self._count(read_status(spool, "demo"))
        finally:
            # After the application: while it runs, it starts another shipper process for one that was ended.
            end_shipper(spool)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(spool.overflow, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(spool.overflow))

    def _task(self, spool: Spool) -> Task:
        return Task(
            trakerr_url=self._receiver.trakerr_url,
            jkool_url=self._receiver.jkool_url,
            spool=spool.path,
            ledgers=str(self._ledgers),
            records=self._records,
            seconds=self._seconds,
            stop_timeout=STOP,
        )

    # -- what happens ------------------------------------------------------------------------------------------------

    def _perform(self, application: ApplicationProcess, spool: Spool) -> None:
        self._display.line(f"a receiver stands in for Trakerr and jKool; its page is {self._receiver.url}")
        application.answer("ready", self._limit - CLEARING)
        start = time.monotonic()
        self._display.line(f"an application with {WORKERS} workers logs; one shipper process delivers")
        for moment, happens in self._script(application, spool):
            self._progress.watch(lambda: False, until=start + moment)
            happens()
        self._progress.watch(lambda: False, until=start + self._seconds)
        self._display.line("the application stops; what is on its way is delivered")
        application.send("stop")
        self._progress.watch(lambda: application.has_answered, until=self._limit - CLEARING)
        application.answer("stopped", self._limit - CLEARING)

    def _script(self, application: ApplicationProcess, spool: Spool) -> list[tuple[float, Callable[[], None]]]:
        half = self._seconds * 0.4
        return [
            (self._seconds * 0.2, self._slow_down),
            (half, self._fail),
            (half + OUTAGE * 0.3, lambda: self._kill_worker(application)),
            (half + OUTAGE * 0.6, lambda: self._kill_shipper(spool)),
            (half + OUTAGE, lambda: self._display.line("the services answer again")),
            (max(self._seconds * 0.8, half + OUTAGE), self._limit_rate),
        ]

    def _slow_down(self) -> None:
        self._display.line("the services are slow: four answers take 0.4 s")
        self._receiver.fail(delay=0.4, count=4)

    def _fail(self) -> None:
        self._display.line(f"both services answer 503 for {OUTAGE:g} seconds")
        self._receiver.fail(status=503, seconds=OUTAGE)

    def _limit_rate(self) -> None:
        self._display.line("the services answer 429 with Retry-After: 1")
        for service in SERVICES:
            self._receiver.fail(service, status=429, retry_after="1")

    def _kill_worker(self, application: ApplicationProcess) -> None:
        application.send("kill")
        killed, replacement = application.answer("killed", self._limit - CLEARING).split()
        self._display.line(f"worker {killed} got SIGKILL; worker {replacement} replaces it")

    def _kill_shipper(self, spool: Spool) -> None:
        self._progress.watch(lambda: shipper_pid(spool) is not None, until=self._limit - CLEARING)
        pid = shipper_pid(spool)
        if pid is None:
            raise DemoFailed("no shipper process runs")
        os.kill(pid, signal.SIGKILL)
        self._display.line(f"the shipper process {pid} got SIGKILL, in the middle of the outage")
        if not self._progress.watch(lambda: shipper_pid(spool) not in (None, pid), until=self._limit - CLEARING):
            raise DemoFailed("no other shipper process was started")
        self._display.line(f"shipper process {shipper_pid(spool)} continues from the journal")

    # -- the outcome -------------------------------------------------------------------------------------------------

    def _count(self, status: Status) -> Outcome:
        logged = self._progress.logged()
        self._progress.update()
        names = self._progress.names
        known = {name for each in names.values() for name in each}
        counts = self._receiver.counts()
        lost, left = undelivered(logged, names, {each.name: each.left for each in status.backends})
        return Outcome(
            emitted=len(logged),
            delivered={service: len(logged & each) for service, each in names.items()},
            retried=sum(counts[service]["failed"] for service in SERVICES),
            duplicates=sum(counts[service]["events"] - len(names[service]) for service in SERVICES),
            dropped=status.total_dropped + sum(each.dead + total(each.dropped) for each in status.backends),
            lost=lost,
            left=left,
            unfinished=len(known - logged),
            seconds=time.monotonic() - self._began,
        )
