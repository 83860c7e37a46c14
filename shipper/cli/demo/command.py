"""`shipper demo` - a receiver, an application with four workers, everything that can go wrong, and then the count.

What has to arrive is what the workers' ledgers name: every record whose logging call had returned. What did arrive is
what the receiver holds. Both are sets of names, and the demo is good when the second has all of the first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NoReturn, Protocol

from ...application.supervisor import TITLE
from ...report import Status, read_status, total
from ...spool.layout import Spool
from .. import BAD_NEWS, OK, complain
from .application import LINE, WORKERS, Task

if TYPE_CHECKING:
    from ...receiver import Receiver

LIMIT = 19.0  # seconds that all of it may take, but for starting Python ...
SPARE = 12.0  # ... or, when the workers are asked to log for long, so many more than that
CLEARING = 2.0  # of these, seconds to end and remove what was started
OUTAGE = 2.0  # seconds of 503
STOP = 6.0  # seconds that the application's `shipper.stop()` may wait
TICK = 0.1
SERVICES = ("trakerr", "jkool")

_BOOT = "import sys; sys.path[:] = {path!r}; from shipper.cli.demo.application import main; main(sys.argv[1])"


class DemoFailed(Exception):
    """The demo could not be played to its end; the text says why."""


class Stage(Protocol):
    """Where the demo is shown."""

    def say(self, what: str) -> None: ...
    def progress(self, emitted: int, delivered: dict[str, int]) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What it came to. ``lost``: records whose logging call had returned, and that one of the services does not hold
    although nothing waits for it any more. ``left``: those that the journal still held when the time was over."""

    emitted: int
    delivered: dict[str, int]
    retried: int  # requests that got no good answer, and were made again
    duplicates: int
    dropped: int
    lost: int
    left: int
    unfinished: int  # arrived, although their worker was killed before the logging call had returned
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.emitted > 0 and self.lost == self.left == self.dropped == 0


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "demo",
        help="see it lose nothing, in 20 seconds",
        description="Start a local receiver and an application with four workers; break the services, kill a worker "
        "and the shipper process; then count what arrived. Needs no account, and leaves nothing behind.",
        epilog="Exit code: 0 only when nothing was lost and nothing dropped.",
    )
    records, seconds = _from(WORKERS, 200_000), _from(4, 3600)
    parser.add_argument("--records", type=records, default=800, metavar="N", help="about how many (%(default)s)")
    parser.add_argument("--seconds", type=seconds, default=7, metavar="S", help="how long workers log (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the receiver and its page up, until Ctrl-C")
    parser.set_defaults(run=run)


def _from(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")

    return number


def run(given: argparse.Namespace) -> int:
    from ...receiver import Receiver
    from . import view

    began = time.monotonic()
    with _terminated_like_interrupted(), Receiver() as receiver:
        try:
            with view.stage(given.records) as stage:
                outcome = Demo(receiver, stage, given.records, given.seconds, began).play()
        except DemoFailed as failure:
            return complain(f"the demo could not be played to its end: {failure}", code=BAD_NEWS)
        view.verdict(outcome)
        if given.keep:
            _keep_up(receiver)
    return OK if outcome.is_good else BAD_NEWS


def _keep_up(receiver: Receiver) -> None:
    print(f"\nWhat arrived is at {receiver.url} until Ctrl-C.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that what was started is ended."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Demo:
    """One performance. ``play`` starts the application, breaks things, and counts; it leaves only the receiver."""

    def __init__(self, receiver: Receiver, stage: Stage, records: int, seconds: float, began: float) -> None:
        self._receiver = receiver
        self._stage = stage
        self._records = records
        self._seconds = seconds
        self._began = began
        self._limit = began + max(LIMIT, seconds + SPARE)
        self._arrived = {service: Arrivals(receiver, service) for service in SERVICES}

    def play(self) -> Outcome:
        """Raises DemoFailed when the application or the shipper process can't be brought to what is needed."""
        folder = Path(tempfile.mkdtemp(prefix="shipper-demo-"))
        spool = Spool(str(folder / "spool"))
        self._ledgers = folder / "ledgers"
        self._ledgers.mkdir()
        application = Application(folder, self._task(spool))
        try:
            with application:
                self._perform(application, spool)
            # Nobody writes any more: the shipper process delivers what is left, and ends by itself.
            if not self._watch(lambda: not read_status(spool, "demo").running, until=self._limit - CLEARING / 2):
                self._stage.say("the time is over, and the shipper process has not ended")
            return self._count(read_status(spool, "demo"))
        finally:
            # The application first: while it runs, it starts another shipper process for one that was ended.
            _end_shipper(spool)
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

    def _perform(self, application: Application, spool: Spool) -> None:
        self._stage.say(f"a receiver plays Trakerr and jKool; its page is {self._receiver.url}")
        application.answer("ready", self._limit - CLEARING)
        start = time.monotonic()
        self._stage.say(f"an application with {WORKERS} workers logs; one shipper process delivers")
        for moment, happens in self._script(application, spool):
            self._watch(lambda: False, until=start + moment)
            happens()
        self._watch(lambda: False, until=start + self._seconds)
        self._stage.say("the application stops: what is on its way is delivered")
        application.tell("stop")
        self._watch(lambda: not application.is_silent, until=self._limit - CLEARING)
        application.answer("stopped", self._limit - CLEARING)

    def _script(self, application: Application, spool: Spool) -> list[tuple[float, Callable[[], None]]]:
        half = self._seconds * 0.4
        return [
            (self._seconds * 0.2, self._slow_down),
            (half, self._break),
            (half + OUTAGE * 0.3, lambda: self._kill_worker(application)),
            (half + OUTAGE * 0.6, lambda: self._kill_shipper(spool)),
            (half + OUTAGE, lambda: self._stage.say("the services answer again")),
            (max(self._seconds * 0.8, half + OUTAGE), self._push_back),
        ]

    def _slow_down(self) -> None:
        self._stage.say("the services are slow: four answers take 0.4 s")
        self._receiver.fail(delay=0.4, count=4)

    def _break(self) -> None:
        self._stage.say(f"both services answer 503 for {OUTAGE:g} seconds")
        self._receiver.fail(status=503, seconds=OUTAGE)

    def _push_back(self) -> None:
        self._stage.say("the services answer 429 with Retry-After: 1")
        for service in SERVICES:
            self._receiver.fail(service, status=429, retry_after="1")

    def _kill_worker(self, application: Application) -> None:
        application.tell("kill")
        killed, fresh = application.answer("killed", self._limit - CLEARING).split()
        self._stage.say(f"worker {killed} got SIGKILL; worker {fresh} takes its place")

    def _kill_shipper(self, spool: Spool) -> None:
        self._watch(lambda: _shipper_pid(spool) is not None, until=self._limit - CLEARING)
        pid = _shipper_pid(spool)
        if pid is None:
            raise DemoFailed("no shipper process runs")
        os.kill(pid, signal.SIGKILL)
        self._stage.say(f"the shipper process {pid} got SIGKILL, in the middle of the outage")
        if not self._watch(lambda: _shipper_pid(spool) not in (None, pid), until=self._limit - CLEARING):
            raise DemoFailed("nobody started another shipper process")
        self._stage.say(f"shipper process {_shipper_pid(spool)} goes on from the journal")

    # -- what it comes to --------------------------------------------------------------------------------------------

    def _watch(self, is_over: Callable[[], bool], *, until: float) -> bool:
        """Show the progress until something is over, or a moment (time.monotonic()) is there; whether it was over."""
        pause = threading.Event()
        while True:
            over = is_over()
            self._look()
            left = until - time.monotonic()
            if over or left <= 0:
                return over
            pause.wait(min(TICK, left))

    def _look(self) -> None:
        emitted = sum(path.stat().st_size // LINE for path in self._ledgers.iterdir())
        for arrivals in self._arrived.values():
            arrivals.follow()
        self._stage.progress(emitted, {service: len(each.names) for service, each in self._arrived.items()})

    def _logged(self) -> set[str]:
        return {name for path in self._ledgers.iterdir() for name in path.read_text().split("\n") if name}

    def _count(self, status: Status) -> Outcome:
        logged = self._logged()
        self._look()
        names = {service: each.names for service, each in self._arrived.items()}
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


def undelivered(logged: set[str], arrived: Mapping[str, set[str]], left: Mapping[str, int]) -> tuple[int, int]:
    """How many records are lost, and how many wait: all that a service lacks wait, when so many are left for it."""
    lost: set[str] = set()
    waiting: set[str] = set()
    for service, names in arrived.items():
        short = logged - names
        (waiting if len(short) <= left.get(service, 0) else lost).update(short)
    return len(lost), len(waiting)


@dataclass
class Arrivals:
    """The names of the records that one service got, followed as they come."""

    receiver: Receiver
    service: str
    names: set[str] = field(default_factory=set)
    last: int = 0

    def follow(self) -> None:
        while found := self.receiver.events(self.service, after=self.last, limit=1000):
            self.last = found[-1]["id"]
            self.names.update(each["message"].rpartition("#")[2] for each in found)


class Application:
    """The application's main process, in a session of its own. Ended, with its workers, at the end of ``with``."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        self._task = task
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Application:
        boot = _BOOT.format(path=[os.path.abspath(entry) for entry in sys.path])
        with open(self._said, "wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot, self._task.as_text()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=self._folder,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("SHIPPER_")},
            )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLEARING / 2)
        if self._process.returncode is None:
            # Not waited for yet, so the number of its group is still its own.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def _said(self) -> Path:
        return self._folder / "stderr"

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(None)

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer that does not come says it
            self._process.stdin.write(f"{what}\n")
            self._process.stdin.flush()

    @property
    def is_silent(self) -> bool:
        """Whether it has said nothing that was not read yet."""
        return self._lines.empty()

    def answer(self, word: str, until: float) -> str:
        """What follows on ``word`` in its next line; DemoFailed when that is another line, or none until then."""
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise DemoFailed(f"the application did not say {word!r} in time") from None
        found, _, rest = (line or "").strip().partition(" ")
        if found != word:
            raise DemoFailed(f"the application ended early; it said:\n{self._said.read_text()[-2000:]}")
        return rest


def _shipper_pid(spool: Spool) -> int | None:
    """The pid of the process that holds the spool's lock, once that is a shipper process of this spool."""
    pid = read_status(spool, "demo").pid
    if pid is None:
        return None
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return pid if TITLE.encode() in command and os.fsencode(spool.path) in command else None
    return None


def _end_shipper(spool: Spool) -> None:
    """End a shipper process that is still there when its time is over."""
    deadline = time.monotonic() + CLEARING / 2
    while read_status(spool, "demo").running and time.monotonic() < deadline:
        pid = _shipper_pid(spool)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        threading.Event().wait(TICK / 2)
