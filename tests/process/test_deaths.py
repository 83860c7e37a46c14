"""Each death of a process is reported once, with what its mirror and the kernel know of it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shipper.event.codec import unpack
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.account import Account
from shipper.journal.history import History
from shipper.journal.writer import Writer
from shipper.process.deaths.oom import OomKiller, read_counter_of_group, read_kernel_log
from shipper.process.deaths.reporter import NOTICES, WINDOW_SECONDS, DeathReporter
from shipper.process.deaths.watch import Ending, Watch
from shipper.process.ingest.appender import Appender
from shipper.process.ingest.intake import Intake
from shipper.process.ingest.recovery import Recovery
from shipper.spool.layout import Spool
from shipper.transport.memory.life import Head, read_stat
from shipper.transport.memory.shared_file import list_files
from shipper.transport.pipe import grow_pipe
from shipper.transport.producer import Producer

from ..support.forks import in_a_child
from ..support.journals import Clock
from ..support.waiting import wait_until


def counter(*values: int) -> Callable[[], int | None]:
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


class Place:
    """A spool, and the parts of a shipper process that find out who has died."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(str(folder))
        self.spool.prepare()
        self.spool.write_id()
        self.clock = Clock()
        self.oom = OomKiller(read_counter=lambda: None, read_log=lambda: iter(()))
        self.watch: Watch | None = None
        self.begin()

    def begin(self) -> None:
        """Begin as a new shipper process does."""
        self.pipe = os.open(self.spool.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        grow_pipe(self.pipe)
        self.writer = Writer(self.spool.journal, segment_bytes=1 << 20)
        self.appender = Appender(self.pipe, self.writer)
        self.intake = Intake(self.pipe, self.appender, self.spool.overflow)
        self.account = Account(self.spool.ledger, self.spool.journal, self.spool.damaged)
        self.deaths = DeathReporter(
            self.spool,
            "test",
            self.account,
            self.intake.adoption,
            watch=self.watch,
            oom_killer=self.oom,
            clock=self.clock,
        )
        self.recovery = Recovery(
            self.spool.overflow, self.pipe, self.appender, self.intake.adoption, self.account, self.deaths
        )
        self.deaths.look()
        self.recovery.begin()

    def end(self) -> None:
        """End as a shipper process that is killed does."""
        self.deaths._watch.close()
        self.writer.close()
        self.account.close()
        os.close(self.pipe)

    def restart(self) -> None:
        self.end()
        self.begin()

    def process(self, work: Callable[[Producer], None]) -> int:
        """Do the work in a process that ends without its interpreter's shutdown; return its exit code."""

        def life() -> None:
            queue = Producer(self.spool.queue, overflow=self.spool.overflow, is_watched=True)
            queue.open()
            work(queue)

        return in_a_child(life)

    def die(self, *messages: str) -> None:
        """Run a process that logs the messages and is killed."""

        def work(queue: Producer) -> None:
            for each in messages:
                queue.put_nowait(pack(Event(message=each, time=time.time(), level_name="INFO", process="worker")))
            os.kill(os.getpid(), signal.SIGKILL)

        assert self.process(work) == -signal.SIGKILL

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run the intake's thread meanwhile."""
        self.intake.stopping.clear()
        thread = threading.Thread(target=self.intake.run)
        thread.start()
        try:
            yield
        finally:
            self.intake.stop()
            thread.join()

    def look(self) -> None:
        """Do what the shipper process does once a second, until all deaths are known."""
        self.deaths.look()
        with self.at_work():
            wait_until(self._knows_all, 10)

    def _knows_all(self) -> bool:
        self.account.follow()
        self.recovery.look()
        return not self.recovery.has_ended and not self.deaths._under_way

    def journaled(self) -> list[Event]:
        history = History(self.spool.journal, self.spool.kept)
        found = [unpack(each.payload, each.id) for each in history.read()]
        history.close()
        return found

    def notices(self) -> list[Event]:
        return [event for event in self.journaled() if event.logger == "shipper.deaths"]

    def reported(self) -> Counter[int]:
        """Return how often each pid is in a notice."""
        found: Counter[int] = Counter()
        for event in self.notices():
            found.update(event.extra["death"].get("pids") or [event.extra["death"]["pid"]])
        return found

    def mirrors(self) -> list[str]:
        # Another app's process may have removed the empty folder.
        return [os.path.basename(path) for path in list_files(self.spool.overflow) if path.endswith(".trail")]


@pytest.fixture
def place(spool: Path) -> Iterator[Place]:
    made = Place(spool)
    yield made
    made.end()
    # Another app's process may remove the folder while it is empty.
    shutil.rmtree(made.spool.overflow, ignore_errors=True)


def test_a_notice_says_who_died_when_and_what_it_logged_last(place: Place) -> None:
    began = time.time()
    place.die(*(f"event {n}" for n in range(25)))

    place.look()

    (notice,) = place.notices()
    death = notice.extra["death"]
    assert notice.level_name == "CRITICAL"
    assert notice.message.startswith(f"process {death['pid']} (worker) of test ended without a clean close: ")
    assert began - 2 <= notice.time <= time.time() + 1
    assert [line.rpartition(": ")[2] for line in notice.extra["last_events"]] == [f"event {n}" for n in range(5, 25)]
    assert place.journaled()[-1] == notice, "behind everything that the process has logged"
    assert place.mirrors() == []


def test_what_a_dead_process_left_is_put_back_once_and_before_its_notice(place: Place) -> None:
    """All processes are killed at once, so the pipe is emptied; then the shipper process is killed three times."""
    place.end()
    place.die("lost by the pipe")
    place.begin()
    for _ in range(3):
        place.restart()

    place.look()

    assert [event.message.split()[0] for event in place.journaled()] == ["lost", "process"]
    assert place.journaled()[-1].extra["last_events"][0].endswith(": lost by the pipe")


def test_a_kill_between_any_two_steps_leaves_one_event_for_each_death(place: Place) -> None:
    """Kills before and after the mirror names its notice, and before and after the notice is in the journal."""
    place.die("one")
    place.restart()
    place.recovery.look()
    place.recovery.look()  # the notice is on its way to the journal
    assert place.deaths.is_pending
    place.restart()
    assert place.notices() == []
    names = place.mirrors()
    assert len(names) == 1
    place.deaths._remove = lambda path: None  # type: ignore[method-assign] # killed before that
    place.recovery.look()
    place.recovery.look()
    with place.at_work():
        wait_until(place.notices, 10)
    assert place.mirrors() == names

    for _ in range(2):
        place.restart()
        place.look()

    assert sum(place.reported().values()) == 1
    assert place.mirrors() == []


def test_more_deaths_than_the_limit_are_counted_in_one_event(place: Place) -> None:
    for n in range(NOTICES + 5):
        place.die(f"event {n}")

    place.look()
    assert len(place.notices()) == NOTICES
    place.clock.now += WINDOW_SECONDS
    place.look()

    assert len(place.notices()) == NOTICES + 1
    assert place.notices()[-1].message == "5 more processes of test ended without a clean close"
    assert sorted(place.reported().values()) == [1] * (NOTICES + 5)
    assert place.mirrors() == []


def test_deaths_that_wait_to_be_counted_are_not_forgotten_by_a_kill(place: Place) -> None:
    for n in range(NOTICES + 5):
        place.die(f"event {n}")
    place.look()

    place.restart()
    place.look()

    assert sorted(place.reported().values()) == [1] * (NOTICES + 5)


def test_a_death_in_the_last_moment_is_left_to_the_next_process(place: Place) -> None:
    def work(queue: Producer) -> None:
        queue.put_nowait(pack(Event(message="one")))
        queue.note_clean_end()

    place.process(work)
    place.die("two")
    with place.at_work():
        wait_until(lambda: len(place.journaled()) == 2, 10)

    place.recovery.end(all_journaled=True)
    assert len(place.mirrors()) == 1
    place.restart()
    place.look()

    assert sum(place.reported().values()) == 1
    assert place.mirrors() == []


@pytest.mark.parametrize("end", ["close", "note_clean_end"])
def test_a_process_that_says_that_it_ends_is_not_reported(place: Place, end: str) -> None:
    def work(queue: Producer) -> None:
        queue.put_nowait(pack(Event(message="one")))
        getattr(queue, end)()

    place.process(work)
    place.look()

    assert [event.message for event in place.journaled()] == ["one"]
    assert place.mirrors() == []


def test_a_child_that_says_that_it_ends_does_not_say_so_of_its_parent(place: Place) -> None:
    def work(queue: Producer) -> None:
        queue.put_nowait(pack(Event(message="one")))
        in_a_child(queue.note_clean_end)

    place.process(work)
    place.look()

    assert len(place.notices()) == 1


def test_a_process_that_nobody_watches_is_not_reported(place: Place) -> None:
    """It has not set `report_deaths`, or is of an earlier version, which never says that it ends."""

    def life() -> None:
        queue = Producer(place.spool.queue, overflow=place.spool.overflow)
        queue.put_nowait(pack(Event(message="one")))

    in_a_child(life)
    place.look()

    assert place.notices() == []
    assert place.mirrors() == []


class Told(Watch):
    """A watch to which the kernel reports the same ending for every process."""

    def __init__(self, ending: Ending) -> None:
        super().__init__("")
        self._ending = ending

    def ending(self, path: str, head: Head) -> Ending:
        return self._ending


CASES = {
    "signal SIGSEGV": Ending(11),
    "exit code 3, without the end of the interpreter (os._exit)": Ending(3 << 8),
    "a signal or os._exit, which is not known": Ending(),
}


@pytest.mark.parametrize("said", CASES)
def test_a_notice_says_what_the_kernel_tells_and_no_more(place: Place, said: str) -> None:
    place.deaths._watch = Told(CASES[said])
    place.die("one")

    place.look()

    (notice,) = place.notices()
    assert notice.message.endswith(f": {said}")
    assert set(notice.extra["death"]) & {"signal", "exit_code"} == {*(["signal"] if "signal SIG" in said else [])} | {
        *(["exit_code"] if "exit code" in said else [])
    }


def test_a_process_that_lives_on_is_not_reported(place: Place) -> None:
    place.deaths._watch = Told(Ending(lives_on=True))
    place.die("one")

    place.look()

    assert place.notices() == []


def test_the_kernel_s_log_says_that_memory_was_short(place: Place) -> None:
    pids: list[int] = []

    def records() -> Iterator[str]:
        now = int(time.monotonic() * 1e6)
        for pid in (os.getpid(), *pids):
            yield f"3,1,{now},-;Out of memory: Killed process {pid} (python) total-vm:1kB\n SUBSYSTEM=memory"
        yield f"3,1,1,-;Out of memory: Killed process {pids[0]} (another one, long ago)"

    place.deaths._oom_killer = OomKiller(read_counter=counter(7, 7, 8), read_log=records)
    place.deaths.look()
    place.deaths.look()

    def work(queue: Producer) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    place.process(work)
    (name,) = place.mirrors()
    pids.append(int.from_bytes(Path(place.spool.overflow, name).read_bytes()[8:16], "little"))
    place.look()

    (notice,) = place.notices()
    assert notice.message.endswith("the kernel killed it because memory was short (OOM killer)")
    assert notice.extra["death"]["oom_killer"] == [f"Out of memory: Killed process {pids[0]} (python) total-vm:1kB"]
    assert notice.extra["death"]["oom_kills_in_control_group"] == 1


def test_the_kernel_s_sources_can_be_read_or_say_nothing() -> None:
    assert (read_counter_of_group() or 0) >= 0
    assert all(";" in record for record in read_kernel_log())


def test_the_status_of_a_zombie_is_known_and_a_process_is_its_start() -> None:
    pid = os.fork()
    if not pid:
        os._exit(5)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    stat = read_stat(pid)

    assert stat is not None
    assert (stat.state, os.waitstatus_to_exitcode(stat.status)) == ("Z", 5)
    os.waitpid(pid, 0)
    assert read_stat(pid) is None
