"""Frames that the pipe lost when all processes were killed at once are put back once; no others are."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from shipper.journal.account import Account
from shipper.journal.reader import Reader
from shipper.journal.segments import Position, segment_path
from shipper.journal.writer import Writer
from shipper.process.ingest.appender import Appender
from shipper.process.ingest.intake import Intake
from shipper.process.ingest.recovery import Recovery
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
        """Begin as a new shipper process does."""
        self.pipe = os.open(self.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        grow_pipe(self.pipe)
        self.writer = Writer(str(self.journal), segment_bytes=1 << 20)
        self.appender = Appender(self.pipe, self.writer)
        self.intake = Intake(self.pipe, self.appender, str(self.memory))
        self.account = Account(str(self._folder / "ledger.json"), str(self.journal), str(self._folder / "damaged"))
        self.recovery = Recovery(str(self.memory), self.pipe, self.appender, self.intake.adoption, self.account)

    def end(self) -> None:
        """End as a shipper process that is killed does."""
        self.writer.close()
        self.account.close()
        os.close(self.pipe)

    def restart(self) -> None:
        self.end()
        self.begin()

    def killed(self, work: Callable[[RecordQueue], None]) -> None:
        """Do the work in a process that is killed afterwards."""

        def life() -> None:
            queue = RecordQueue(self.queue, overflow=str(self.memory))
            queue.open()
            work(queue)
            os.kill(os.getpid(), signal.SIGKILL)

        assert in_a_child(life) == -signal.SIGKILL

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Run the intake's thread meanwhile."""
        thread = threading.Thread(target=self.intake.run)
        thread.start()
        try:
            yield
        finally:
            self.intake.stop()
            thread.join()

    def is_recovered(self) -> bool:
        """Look once more; return whether nothing is left to recover."""
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
    """Put an event of one frame, and move the first 100 bytes into the journal."""
    queue.put_nowait(b"." * 3900)
    place.writer.splice(place.pipe, 100)


def test_frames_in_the_pipe_are_put_back_after_all_processes_were_killed(place: Place) -> None:
    place.end()
    place.killed(put_three)
    place.begin()
    assert place.appender.taken == 0

    place.recovery.begin()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)]
    assert os.listdir(place.memory) == []


def test_frames_that_are_still_in_the_pipe_are_not_put_back_too(place: Place) -> None:
    place.killed(put_three)

    place.recovery.begin()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)]
    assert place.appender.taken > 300
    assert os.listdir(place.memory) == []


def test_frames_in_the_journal_are_not_put_back(place: Place) -> None:
    def work(queue: RecordQueue) -> None:
        put_three(queue)
        place.appender.drain_pipe()
        put_three(queue)

    place.killed(work)
    place.restart()

    place.recovery.begin()

    assert place.journaled == [(seq, 0) for seq in range(6)]


def test_of_an_event_that_is_journaled_in_part_only_the_rest_is_put_back(place: Place) -> None:
    def work(queue: RecordQueue) -> None:
        put_three(queue)
        queue.put_nowait(b"." * 9000)
        place.writer.splice(place.pipe, 3 * (frame.HEADER.size + 100) + frame.MAX_FRAME)

    place.killed(work)
    place.restart()

    place.recovery.begin()

    place.account.follow()
    (token,) = place.account.seen()
    assert all(place.account.has(bytes.fromhex(token), 3, part) for part in range(3))
    assert place.journaled == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2)]


def test_behind_half_a_frame_at_the_end_of_the_journal_nothing_is_put_back_twice(place: Place) -> None:
    """The frame's rest will not come, and what has come since could be taken for it."""
    place.killed(partial(put_half, place))
    place.restart()
    place.killed(put_three)

    place.recovery.begin()

    place.account.follow()
    assert (place.account.journaled, place.account.duplicates) == (4, 0)
    assert (place.account.corrupt, place.account.corrupt_bytes) == (1, 100)


def test_behind_half_a_frame_nothing_is_put_back_twice_when_descriptors_were_missing_first(place: Place) -> None:
    """Frames behind it could be taken for its rest until it is certain that the rest will not come."""

    def whole(queue: RecordQueue) -> None:
        put_three(queue)
        place.appender.drain_pipe()

    for work in (partial(put_half, place), whole):
        place.killed(work)
        place.restart()

    with few_descriptors(0):
        place.recovery.begin()
    with place.at_work():
        wait_until(place.is_recovered, 10)

    place.account.follow()
    assert (place.account.journaled, place.account.duplicates) == (4, 0)


def test_half_a_frame_at_the_end_of_the_journal_prevents_no_recovery(place: Place) -> None:
    """Also when no frame follows, which would show that the rest of the half one will not come."""
    place.killed(partial(put_half, place))
    place.restart()
    with few_descriptors(0):
        place.recovery.begin()
    place.writer.open()

    with place.at_work():
        wait_until(place.is_recovered, 10)

    wait_until(lambda: place.account.follow() or place.account.journaled, 5)
    assert (place.account.journaled, place.account.duplicates) == (1, 0)
    assert (place.account.corrupt, place.account.corrupt_bytes) == (1, 100)


def test_an_event_that_was_never_whole_is_not_journaled_again(place: Place) -> None:
    """Its process was killed while it put the second frame, and the shipper process had not begun yet."""

    def work(queue: RecordQueue) -> None:
        first, *_ = frame.encode(b"." * 9000, token=queue.token, seq=0, pid=os.getpid())
        assert queue._channel.write(first)

    place.killed(work)
    place.recovery.begin()

    place.account.follow()
    assert place.journaled == [(0, 0)]
    assert place.account.duplicates == 0


def test_the_mirror_of_a_running_process_stays(place: Place) -> None:
    queue = RecordQueue(place.queue, overflow=str(place.memory))
    put_three(queue)

    place.recovery.begin()
    for _ in range(3):
        place.recovery.look()

    assert len(os.listdir(place.memory)) == 1
    place.appender.drain_pipe()
    queue.close()


def test_the_mirror_of_an_ended_process_is_removed_once_its_frames_are_journaled(place: Place) -> None:
    place.recovery.begin()
    place.killed(put_three)

    for _ in range(3):
        place.recovery.look()
    assert len(os.listdir(place.memory)) == 1
    place.appender.drain_pipe()
    place.recovery.look()

    assert os.listdir(place.memory) == []
    assert place.journaled == [(0, 0), (1, 0), (2, 0)]


def put_and_lose(place: Place) -> Callable[[RecordQueue], None]:
    """Lose three events: no shipper process runs, the writer's descriptors are closed, so the pipe is open nowhere."""

    def work(queue: RecordQueue) -> None:
        put_three(queue)
        os.closerange(3, 4096)
        queue.put_nowait(b"later")
        place.begin()
        place.recovery.begin()
        place.appender.drain_pipe()
        place.account.follow()
        assert place.journaled == [(3, 0)]
        place.account.save()

    return work


def test_what_was_in_a_pipe_that_was_open_nowhere_comes_when_its_process_has_ended(place: Place) -> None:
    place.end()
    place.killed(put_and_lose(place))
    place.begin()
    place.recovery._has_looked = True  # as if the process had ended later

    with place.at_work():
        wait_until(place.is_recovered, 10, "the rest")

    assert sorted(place.journaled) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_a_mirror_of_a_process_that_the_account_has_forgotten_is_not_put_back(place: Place) -> None:
    place.end()
    place.killed(put_and_lose(place))
    os.unlink(place.queue.replace("queue", "ledger.json"))
    os.rename(segment_path(str(place.journal), 1), segment_path(str(place.journal), 2))
    place.begin()
    place.recovery._has_looked = True

    with place.at_work():
        wait_until(place.is_recovered, 10, "the removal of the mirror")

    assert len(place.journaled) < 4


def test_a_mirror_whose_frames_may_be_in_another_queue_is_put_back_once_they_are_not(place: Place) -> None:
    """A process that lost its descriptors may have opened the new queue, and ended before any other opened it."""
    place.end()
    place.killed(put_and_lose(place))
    place.begin()
    place.recovery._has_looked = True
    os.unlink(place.queue)

    with place.at_work():
        wait_until(lambda: not place.recovery.finds_more(), 10, "that the process may end meanwhile")
        assert os.listdir(place.memory)
        assert len(place.journaled) < 4
        os.mkfifo(place.queue, 0o600)
        place.intake.follow(os.open(place.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        wait_until(place.is_recovered, 10, "the rest")

    assert sorted(place.journaled) == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_what_is_in_another_queue_is_not_put_back_when_intake_goes_on_to_it_during_a_look(place: Place) -> None:
    """Otherwise it would be delivered twice."""

    class Following(Appender):
        coming: int | None = None

        @property
        def taken(self) -> int:
            found, coming, self.coming = super().taken, self.coming, None
            if coming is not None:
                self.follow(coming)
                self.splice_earlier()
            return found

    appender = Following(place.pipe, place.writer)
    place.intake = Intake(place.pipe, appender, str(place.memory))
    place.recovery = Recovery(str(place.memory), place.pipe, appender, place.intake.adoption, place.account)
    place.recovery.begin()
    os.unlink(place.queue)
    os.mkfifo(place.queue, 0o600)
    appender.coming = os.open(place.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    place.killed(put_three)

    for _ in range(2):
        place.recovery.look()
    with place.at_work():
        wait_until(place.is_recovered, 10, "the removal of the mirror")

    assert sorted(place.journaled) == [(0, 0), (1, 0), (2, 0)]


def test_the_process_removes_mirrors_at_its_end_unless_something_is_in_the_pipe(place: Place) -> None:
    place.recovery.begin()
    place.killed(put_three)
    place.recovery.look()

    place.recovery.end(all_journaled=True)
    assert len(os.listdir(place.memory)) == 1
    place.appender.drain_pipe()
    place.recovery.end(all_journaled=True)

    assert os.listdir(place.memory) == []


def test_frames_are_put_back_later_when_the_disk_is_full_at_the_start(place: Place) -> None:
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


def test_a_disk_that_stays_full_leaves_the_mirrors_to_the_next_process(place: Place) -> None:
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


def test_frames_that_a_full_disk_left_in_the_pipe_are_not_put_back_too(place: Place) -> None:
    """One writer survived, so the pipe kept its content."""
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


def test_mirrors_are_put_back_in_the_order_of_logging(place: Place) -> None:
    def work(queue: RecordQueue) -> None:
        for size in range(2000):
            queue.put_nowait(b"." * (size % 700))

    place.end()
    place.killed(work)
    place.begin()

    place.recovery.begin()

    assert place.journaled == [(seq, 0) for seq in range(2000)]


def test_more_mirrors_than_descriptors_are_put_back(place: Place) -> None:
    place.end()
    for _ in range(8):
        place.killed(put_three)
    place.begin()

    with few_descriptors(5):
        place.recovery.begin()
    place.recovery.look()

    assert place.journaled == [(0, 0), (1, 0), (2, 0)] * 8
    assert os.listdir(place.memory) == []


def test_the_mirrors_of_many_ended_processes_take_no_descriptors(place: Place) -> None:
    """Requests and segments need them."""
    place.recovery.begin()
    for _ in range(5):
        place.killed(put_three)
    before = len(os.listdir("/dev/fd"))

    place.recovery.look()

    assert len(os.listdir("/dev/fd")) == before
    place.appender.drain_pipe()
    place.recovery.look()
    assert os.listdir(place.memory) == []


@pytest.mark.parametrize("more", [0, 1, 2])
def test_without_a_descriptor_mirrors_are_put_back_once_there_are_some(place: Place, more: int) -> None:
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


def linked_elsewhere(mirror: Path) -> None:
    mirror.with_suffix(".linked").hardlink_to(mirror)


def owned_by_another_user(mirror: Path) -> None:
    need(os.geteuid() == 0, "the right to give files away")
    os.chown(mirror, 65534, 65534)


@pytest.mark.parametrize("change", [linked_elsewhere, owned_by_another_user])
def test_a_mirror_that_other_users_could_write_is_ignored(place: Place, change: Callable[[Path], None]) -> None:
    place.end()
    place.killed(put_three)
    place.begin()
    (mirror,) = place.memory.iterdir()
    change(mirror)

    place.recovery.begin()
    place.recovery.look()

    assert place.journaled == []
    assert mirror.exists()


def test_a_foreign_file_among_the_mirrors_is_left_alone(place: Place) -> None:
    place.memory.mkdir(0o700)
    (place.memory / "mine.mirror").write_bytes(b"hello")
    (place.memory / "folder.mirror").mkdir()
    (place.memory / "link.mirror").symlink_to(place.memory / "mine.mirror")
    os.mkfifo(place.memory / "pipe.mirror", 0o600)
    before = len(os.listdir("/dev/fd"))

    place.recovery.begin()
    place.recovery.look()

    assert sorted(os.listdir(place.memory)) == ["folder.mirror", "link.mirror", "mine.mirror", "pipe.mirror"]
    assert len(os.listdir("/dev/fd")) == before
