"""What the pipe lost, because all who held it were killed at once, is put back once; nothing else is."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from shipper.journal.account import Ledger
from shipper.journal.writer import Position, Reader, Writer
from shipper.process.intake import Intake
from shipper.process.recovery import Recovery
from shipper.transport import frame
from shipper.transport.pipe import grow_pipe
from shipper.transport.queue import RecordQueue

from ..support.descriptors import few_descriptors
from ..support.disks import tmpfs
from ..support.forks import in_a_child
from ..support.needs import need
from ..support.waiting import wait_until


class Place:
    """A spool, and one shipper process's parts that take it over."""

    def __init__(self, folder: Path) -> None:
        self.queue = str(folder / "queue")
        self.memory = folder / "memory"
        self.journal = folder / "journal"
        self._folder = folder
        os.mkfifo(self.queue, 0o600)
        self.journal.mkdir(0o700)
        (folder / "damaged").mkdir(0o700)
        self.pipe = -1
        self.begin()

    def begin(self) -> None:
        """As a new process does."""
        self.pipe = os.open(self.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        grow_pipe(self.pipe)
        self.writer = Writer(str(self.journal), segment_bytes=1 << 20)
        self.intake = Intake(self.pipe, self.writer, str(self.memory))
        self.ledger = Ledger(str(self._folder / "ledger.json"), str(self.journal), str(self._folder / "damaged"))
        self.recovery = Recovery(str(self.memory), self.pipe, self.intake, self.ledger)

    def end(self) -> None:
        """As one that is killed."""
        self.writer.close()
        self.ledger.close()
        os.close(self.pipe)

    def restart(self) -> None:
        self.end()
        self.begin()

    def killed(self, work: Callable[[RecordQueue], None]) -> None:
        """A process that does the work and is killed."""

        def life() -> None:
            queue = RecordQueue(self.queue, overflow=str(self.memory))
            queue.open()
            work(queue)
            os.kill(os.getpid(), signal.SIGKILL)

        assert in_a_child(life) == -signal.SIGKILL

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While the intake's thread runs."""
        thread = threading.Thread(target=self.intake.run)
        thread.start()
        try:
            yield
        finally:
            self.intake.stopping.set()
            thread.join()

    def is_recovered(self) -> bool:
        """After one more look; nothing is left."""
        self.recovery.look()
        return not self.recovery.is_pending and not os.listdir(self.memory)

    @property
    def journaled(self) -> list[tuple[int, int]]:
        """Number and part of every frame in the journal."""
        found = []
        reader = Reader(str(self.journal), Position(1, 0))
        while (stretch := reader.read()) is not None:
            assert not stretch.scan.damage
            found += [(view.seq, view.part) for view in stretch.scan.frames]
        reader.close()
        return found


@pytest.fixture
def place(spool: Path) -> Iterator[Place]:
    made = Place(spool)
    yield made
    made.end()


def put_three(queue: RecordQueue) -> None:
    for _ in range(3):
        queue.put_nowait(b"." * 100)


def put_half(place: Place, queue: RecordQueue) -> None:
    """An event of one frame, half of which gets into the journal."""
    queue.put_nowait(b"." * 3900)
    place.writer.splice(place.pipe, 100)


def test_what_was_in_the_pipe_when_all_were_killed_is_put_back(place: Place) -> None:
    place.end()
    place.killed(put_three)
    place.begin()
    assert place.intake.taken == 0

    place.recovery.begin()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)]
    assert os.listdir(place.memory) == []


def test_what_is_still_in_the_pipe_is_not_put_back_as_well(place: Place) -> None:
    place.killed(put_three)

    place.recovery.begin()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)]
    assert place.intake.taken > 300
    assert os.listdir(place.memory) == []


def test_what_is_in_the_journal_is_not_put_back(place: Place) -> None:
    def work(queue: RecordQueue) -> None:
        put_three(queue)
        place.intake.catch_up()
        put_three(queue)

    place.killed(work)
    place.restart()

    place.recovery.begin()

    assert place.journaled == [(seq, 0) for seq in range(6)]


def test_of_an_event_that_the_journal_has_in_part_only_the_rest_is_put_back(place: Place) -> None:
    def work(queue: RecordQueue) -> None:
        put_three(queue)
        queue.put_nowait(b"." * 9000)
        place.writer.splice(place.pipe, 3 * (frame.HEADER.size + 100) + frame.MAX_FRAME)

    place.killed(work)
    place.restart()

    place.recovery.begin()

    place.ledger.follow()
    (token,) = place.ledger.seen()
    assert all(place.ledger.has(bytes.fromhex(token), 3, part) for part in range(3))
    assert place.journaled == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]


def test_half_a_frame_at_the_end_of_the_journal_has_nothing_behind_it_put_back_twice(place: Place) -> None:
    """Its rest will not come, and what has come since is short enough to be that."""
    place.killed(partial(put_half, place))
    place.restart()
    place.killed(put_three)

    place.recovery.begin()

    place.ledger.follow()
    assert (place.ledger.journaled, place.ledger.doubles) == (4, 0)
    assert (place.ledger.corrupt, place.ledger.corrupt_bytes) == (1, 100)


def test_behind_half_a_frame_what_the_journal_has_is_not_put_back_once_there_are_descriptors(place: Place) -> None:
    """Until the rest of it certainly won't come, what is behind it could be that."""

    def whole(queue: RecordQueue) -> None:
        put_three(queue)
        place.intake.catch_up()

    for work in (partial(put_half, place), whole):
        place.killed(work)
        place.restart()

    with few_descriptors(0):
        place.recovery.begin()
    with place.at_work():
        wait_until(place.is_recovered, 10)

    place.ledger.follow()
    assert (place.ledger.journaled, place.ledger.doubles) == (4, 0)


def test_half_a_frame_at_the_end_of_the_journal_keeps_nothing_from_being_put_back(place: Place) -> None:
    """Also when nothing comes behind it that would show that its rest does not come."""
    place.killed(partial(put_half, place))
    place.restart()
    with few_descriptors(0):
        place.recovery.begin()
    place.writer.open()

    with place.at_work():
        wait_until(place.is_recovered, 10)

    wait_until(lambda: place.ledger.follow() or place.ledger.journaled, 5)
    assert (place.ledger.journaled, place.ledger.doubles) == (1, 0)
    assert (place.ledger.corrupt, place.ledger.corrupt_bytes) == (1, 100)


def test_an_event_that_was_never_whole_is_not_journaled_again(place: Place) -> None:
    """Its process was killed while it put the second frame, and the shipper process had not begun yet."""

    def work(queue: RecordQueue) -> None:
        first, *_ = frame.encode(b"." * 9000, token=queue.token, seq=0, pid=os.getpid())
        assert queue._channel.write(first)

    place.killed(work)
    place.recovery.begin()

    place.ledger.follow()
    assert place.journaled == [(0, 0)]
    assert place.ledger.doubles == 0


def test_the_trail_of_a_process_that_lives_stays(place: Place) -> None:
    queue = RecordQueue(place.queue, overflow=str(place.memory))
    put_three(queue)

    place.recovery.begin()
    for _ in range(3):
        place.recovery.look()

    assert len(os.listdir(place.memory)) == 1
    place.intake.catch_up()
    queue.close()


def test_the_trail_of_a_process_that_ended_goes_once_intake_is_past_it(place: Place) -> None:
    place.recovery.begin()
    place.killed(put_three)

    for _ in range(3):
        place.recovery.look()
    assert len(os.listdir(place.memory)) == 1
    place.intake.catch_up()
    place.recovery.look()

    assert os.listdir(place.memory) == []
    assert place.journaled == [(0, 0), (1, 0), (2, 0)]


def test_the_end_of_the_process_takes_the_trails_along_unless_something_is_in_the_pipe(place: Place) -> None:
    place.recovery.begin()
    place.killed(put_three)
    place.recovery.look()

    place.recovery.end()
    assert len(os.listdir(place.memory)) == 1
    place.intake.catch_up()
    place.recovery.end()

    assert os.listdir(place.memory) == []


def test_a_disk_that_is_full_at_the_start_gets_it_once_it_has_room(place: Place) -> None:
    place.end()
    for _ in range(10):
        place.killed(put_three)
    with tmpfs(place.journal, "8k") as disk:
        (disk / "ballast").write_bytes(b"." * 8192)
        place.begin()
        place.recovery.begin()
        with place.at_work():
            for _ in range(2):
                place.recovery.look()
            wait_until(lambda: bool(place.intake.trouble), 5)
            assert place.recovery.is_pending
            (disk / "ballast").unlink()

            wait_until(place.is_recovered, 10)

        assert place.intake.trouble == ""
        assert place.journaled == [(0, 0), (1, 0), (2, 0)] * 10
        assert os.listdir(place.memory) == []
        place.restart()
        place.end()
    place.begin()


def test_a_full_disk_that_stays_full_leaves_the_trails_to_the_next_process(place: Place) -> None:
    place.end()
    place.killed(put_three)
    with tmpfs(place.journal, "4k") as disk:
        (disk / "ballast").write_bytes(b"." * 4096)
        place.begin()
        place.recovery.begin()
        place.recovery.look()
        place.end()
    assert len(os.listdir(place.memory)) == 1

    place.begin()
    place.recovery.begin()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)]
    assert os.listdir(place.memory) == []


def test_what_the_full_disk_left_in_the_pipe_is_not_put_back_as_well(place: Place) -> None:
    """All but one writer were killed with the process, so the pipe kept all."""
    place.killed(put_three)
    with tmpfs(place.journal, "4k") as disk:
        (disk / "ballast").write_bytes(b"." * 4096)
        holding = os.open(place.queue, os.O_WRONLY)
        place.restart()
        place.recovery.begin()
        place.recovery.look()
        with place.at_work():
            wait_until(lambda: bool(place.intake.trouble), 5)
            (disk / "ballast").unlink()
            wait_until(place.is_recovered, 10)
        os.close(holding)

        assert place.journaled == [(0, 0), (1, 0), (2, 0)]
        place.end()
    place.begin()


def test_trails_are_put_back_in_the_order_of_logging(place: Place) -> None:
    def work(queue: RecordQueue) -> None:
        for size in range(2000):
            queue.put_nowait(b"." * (size % 700))

    place.end()
    place.killed(work)
    place.begin()

    place.recovery.begin()

    assert place.journaled == [(seq, 0) for seq in range(2000)]


def test_more_trails_than_descriptors_are_put_back(place: Place) -> None:
    place.end()
    for _ in range(8):
        place.killed(put_three)
    place.begin()

    with few_descriptors(5):
        place.recovery.begin()
    place.recovery.look()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)] * 8
    assert os.listdir(place.memory) == []


def test_the_trails_of_many_that_ended_take_no_descriptors(place: Place) -> None:
    """They would be wanting for requests and segments."""
    place.recovery.begin()
    for _ in range(5):
        place.killed(put_three)
    before = len(os.listdir("/dev/fd"))

    place.recovery.look()

    assert len(os.listdir("/dev/fd")) == before
    place.intake.catch_up()
    place.recovery.look()
    assert os.listdir(place.memory) == []


@pytest.mark.parametrize("more", [0, 1, 2])
def test_without_a_descriptor_the_trails_are_put_back_when_there_are_some(place: Place, more: int) -> None:
    place.end()
    for _ in range(3):
        place.killed(put_three)
    place.begin()

    with few_descriptors(more):
        place.recovery.begin()
    place.killed(put_three)
    with place.at_work():
        wait_until(place.is_recovered, 10)

    assert sorted(place.journaled) == sorted([(0, 0), (1, 0), (2, 0)] * 4)
    assert os.listdir(place.memory) == []


def linked_elsewhere(trail: Path) -> None:
    trail.with_suffix(".linked").hardlink_to(trail)


def somebody_elses(trail: Path) -> None:
    need(os.geteuid() == 0, "the right to give files away")
    os.chown(trail, 65534, 65534)


@pytest.mark.parametrize("change", [linked_elsewhere, somebody_elses])
def test_a_trail_that_is_not_this_users_alone_is_not_believed(place: Place, change: Callable[[Path], None]) -> None:
    place.end()
    place.killed(put_three)
    place.begin()
    (trail,) = place.memory.iterdir()
    change(trail)

    place.recovery.begin()
    place.recovery.look()

    assert place.journaled == []
    assert trail.exists()


def test_a_foreign_file_among_the_trails_is_left_alone(place: Place) -> None:
    place.memory.mkdir(0o700)
    (place.memory / "mine.trail").write_bytes(b"hello")
    (place.memory / "folder.trail").mkdir()
    (place.memory / "link.trail").symlink_to(place.memory / "mine.trail")
    os.mkfifo(place.memory / "pipe.trail", 0o600)
    before = len(os.listdir("/dev/fd"))

    place.recovery.begin()
    place.recovery.look()

    assert sorted(os.listdir(place.memory)) == ["folder.trail", "link.trail", "mine.trail", "pipe.trail"]
    assert len(os.listdir("/dev/fd")) == before
