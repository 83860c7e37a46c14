"""Intake: everything that was put gets into the journal once, whoever is killed and whatever the disk says."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shipper.journal.reader import Reader
from shipper.journal.segments import Position, segment_path, segments
from shipper.journal.writer import Writer
from shipper.process.ingest.appender import Appender
from shipper.process.ingest.intake import MIN_REST_SECONDS, Intake, rest_seconds
from shipper.process.ingest.quota import Quota
from shipper.process.ingest.upkeep import Upkeep
from shipper.spool.layout import Spool
from shipper.transport import frame
from shipper.transport.memory.overflow import Overflow
from shipper.transport.pipe import grow_pipe
from shipper.transport.queue import RecordQueue

from ..support.disks import tmpfs
from ..support.forks import forked
from ..support.waiting import PATIENCE, wait_until

TOKEN = b"tokentok"


def framed(seq: int, size: int = 100) -> bytes:
    return b"".join(frame.encode(b"." * size, token=TOKEN, seq=seq, pid=os.getpid()))


class Journal:
    """The frames in the journal now."""

    def __init__(self, folder: Path) -> None:
        self.frames: list[frame.FrameView] = []
        self.damage = 0
        reader = Reader(str(folder), Position(1, 0))
        while (stretch := reader.read()) is not None:
            self.frames += stretch.scan.frames
            self.damage += len(stretch.scan.damage)
        reader.close()

    @property
    def seqs(self) -> list[int]:
        return [view.seq for view in self.frames]


class Place:
    def __init__(self, folder: Path) -> None:
        self.queue = str(folder / "queue")
        self.overflow = str(folder / "overflow")
        self.journal = folder / "journal"
        os.mkfifo(self.queue, 0o600)
        self.journal.mkdir(0o700)

    def pipe(self) -> int:
        fd = os.open(self.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        grow_pipe(fd)
        return fd

    def replace_queue(self) -> int:
        """Replace the queue by a new one; return a descriptor of the removed one, open for reading and writing."""
        removed = os.open(self.queue, os.O_RDWR | os.O_NONBLOCK)
        os.unlink(self.queue)
        os.mkfifo(self.queue, 0o600)
        return removed

    def record_queue(self, overflow_size: int = 8 * 1024 * 1024) -> RecordQueue:
        made = RecordQueue(self.queue, overflow=self.overflow, overflow_size=overflow_size)
        made.open()
        return made


@pytest.fixture
def place(spool: Path) -> Place:
    return Place(spool)


Start = Callable[..., Intake]


@pytest.fixture
def start(place: Place) -> Iterator[Start]:
    """Start an intake in a thread; at the end all are stopped."""
    running: list[tuple[Intake, threading.Thread, int]] = []

    def begin(
        *,
        segment_bytes: int = 1 << 20,
        quota: Quota | None = None,
        last_bytes: int = 0,
        rest: float = MIN_REST_SECONDS,
        on_change: Callable[[], None] = lambda: None,
    ) -> Intake:
        pipe = place.pipe()
        writer = Writer(str(place.journal), segment_bytes=segment_bytes)
        appender = Appender(pipe, writer, quota)
        intake = Intake(pipe, appender, place.overflow, rest=rest, last_bytes=last_bytes, on_change=on_change)
        intake.adoption.allowed.set()
        thread = threading.Thread(target=intake.run)
        thread.start()
        running.append((intake, thread, pipe))
        return intake

    def look() -> None:
        """Look for orphaned overflows again and again, as the main thread of a shipper process does."""
        while not ended.wait(0.05):
            for intake, thread, _ in list(running):
                if thread.is_alive():
                    intake.adoption.look_for_orphans()

    ended = threading.Event()
    looking = threading.Thread(target=look)
    looking.start()
    yield begin
    ended.set()
    looking.join()
    for intake, thread, pipe in running:
        intake.stop()
        thread.join()
        os.close(pipe)
        while not intake.adoption.adopted.empty():
            intake.adoption.adopted.get().remove()


def test_what_a_process_waits_for_does_not_wait_for_the_end_of_a_rest(place: Place, start: Start) -> None:
    intake = start(rest=3600.0)
    put = place.record_queue()
    put.put_nowait(b"0")
    wait_until(lambda: Journal(place.journal).seqs == [0])
    put.put_nowait(b"1")

    intake.set_hurry(True)

    wait_until(lambda: Journal(place.journal).seqs == [0, 1])
    put.put_nowait(b"2")
    wait_until(lambda: Journal(place.journal).seqs == [0, 1, 2])


def test_a_rest_is_short_when_the_pipe_is_small() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb"):
        fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
        assert rest_seconds(reading) == MIN_REST_SECONDS


def test_events_from_the_queue_are_journaled_and_reported(place: Place, start: Start) -> None:
    told = threading.Event()
    start(on_change=told.set)
    put = place.record_queue()

    for seq in range(100):
        put.put_nowait(b"%d" % seq)

    wait_until(lambda: Journal(place.journal).seqs == list(range(100)))
    assert told.is_set()
    put.close()


def test_a_queue_that_never_had_a_writer_is_at_its_end(place: Place, start: Start) -> None:
    """The kernel reports a hang-up only after a writer was there."""
    intake = start()

    wait_until(intake.eof.is_set)
    assert intake.hung_up.is_set()
    put = place.record_queue()
    put.put_nowait(b"1")
    wait_until(lambda: not intake.eof.is_set())
    put.close()


def test_intake_notices_the_end_of_the_last_writer_and_a_new_one(place: Place, start: Start) -> None:
    put = place.record_queue()
    intake = start()
    put.put_nowait(b"1")
    wait_until(lambda: Journal(place.journal).seqs == [0])
    assert not intake.eof.is_set()

    put.close()
    wait_until(intake.eof.is_set)

    again = place.record_queue()
    again.put_nowait(b"2")
    wait_until(lambda: len(Journal(place.journal).frames) == 2 and not intake.eof.is_set())
    again.close()
    wait_until(intake.eof.is_set)


def test_events_that_wait_in_the_pipe_are_journaled_once_intake_starts(place: Place, start: Start) -> None:
    put = place.record_queue()
    for _ in range(1000):
        put.put_nowait(b"." * 500)
    start()

    wait_until(lambda: Journal(place.journal).seqs == list(range(1000)))
    put.close()


def test_a_full_journal_takes_the_last_events_once_the_last_writer_has_ended(place: Place, start: Start) -> None:
    put = place.record_queue()
    intake = start(quota=Quota(str(place.journal), 0), last_bytes=4096)
    put.put_nowait(b"1")
    wait_until(intake.full.is_set)
    assert Journal(place.journal).frames == []

    put.close()

    wait_until(intake.eof.is_set)
    assert Journal(place.journal).seqs == [0]


def test_a_process_that_has_a_removed_queue_open_does_not_stop_the_new_one(place: Place, start: Start) -> None:
    """Also when a segment reaches its size limit inside a frame of the new queue."""
    intake = start(segment_bytes=1000)
    removed = place.replace_queue()
    made = os.open(place.queue, os.O_RDWR | os.O_NONBLOCK)
    os.write(made, b"".join(framed(seq) for seq in range(20)))

    intake.follow(place.pipe())

    wait_until(lambda: Journal(place.journal).seqs == list(range(20)))
    os.close(removed)
    os.close(made)
    wait_until(intake.eof.is_set)


def test_a_queue_that_was_made_anew_is_opened_once_while_intake_does_not_come_to_it(place: Place) -> None:
    """While the disk is full, intake can't go on to the new queue from inside a frame of the removed one."""
    intake = Intake(pipe := place.pipe(), Appender(pipe, Writer(str(place.journal))))
    upkeep = Upkeep(Spool(str(Path(place.queue).parent)), None, intake, None, pipe)  # type: ignore[arg-type]
    removed = place.replace_queue()

    upkeep._follow_queue()
    open_files = os.listdir("/proc/self/fd")
    upkeep._follow_queue()

    assert os.listdir("/proc/self/fd") == open_files
    assert intake._coming is not None
    for each in (intake._coming, removed, pipe):
        os.close(each)


def test_a_full_journal_takes_the_last_events_of_a_removed_queue_too(place: Place, start: Start) -> None:
    intake = start(quota=Quota(str(place.journal), 0), last_bytes=4096)
    removed = place.replace_queue()
    os.write(removed, framed(0))
    wait_until(intake.full.is_set)

    intake.follow(place.pipe())

    wait_until(lambda: Journal(place.journal).seqs == [0])
    assert intake.hung_up.is_set()
    os.close(removed)
    wait_until(intake.eof.is_set)


def test_segments_begin_at_frame_borders_under_the_load_of_several_processes(place: Place, start: Start) -> None:
    start(segment_bytes=100_000)
    pids = []
    for _ in range(3):

        def work() -> None:
            put = place.record_queue()
            chance = random.Random(os.getpid())
            for _ in range(2000):
                put.put(b"." * chance.randrange(1, 9000))
            put.drain(float("inf"))

        pids.append(forked(work))
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0

    wait_until(lambda: len({(v.token, v.seq) for v in Journal(place.journal).frames}) == 6000, 20)
    found = Journal(place.journal)
    assert found.damage == 0
    counted = Counter((view.token, view.seq, view.part) for view in found.frames)
    assert max(counted.values()) == 1
    assert len(segments(str(place.journal))) > 5
    for number in segments(str(place.journal)):
        data = Path(segment_path(str(place.journal), number)).read_bytes()
        assert frame.scan(data, complete=True).damage == []


INTAKE = """
import os, sys
from shipper.process.ingest.appender import Appender
from shipper.process.ingest.intake import MIN_REST_SECONDS, Intake, rest_seconds
from shipper.journal.writer import Writer
from shipper.transport.pipe import grow_pipe
queue, journal, overflow = sys.argv[1:]
pipe = os.open(queue, os.O_RDONLY | os.O_NONBLOCK)
grow_pipe(pipe)
intake = Intake(pipe, Appender(pipe, Writer(journal, segment_bytes=300_000)), overflow)
print("ready", flush=True)
intake.run()
"""


def intake_process(place: Place) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", INTAKE, place.queue, str(place.journal), place.overflow]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_an_intake_killed_again_and_again_loses_and_damages_nothing(place: Place) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    holder = place.record_queue()
    pids = []
    for which in range(2):
        sizes = random.Random(seed + which)

        def work(sizes: random.Random = sizes) -> None:
            for _ in range(4000):
                holder.put(b"." * sizes.choice([20, 300, 300, 5000]), timeout=0.01)
            holder.drain(float("inf"))

        pids.append(forked(work))

    alive = set(pids)
    pause = threading.Event()
    kills = 0
    while alive or kills < 10:
        process = intake_process(place)
        pause.wait(chance.uniform(0.0, 0.15))
        process.kill()
        process.communicate()
        kills += 1
        alive -= {pid for pid in alive if os.waitpid(pid, os.WNOHANG)[0]}
    process = intake_process(place)
    wait_until(lambda: len({(v.token, v.seq) for v in Journal(place.journal).frames}) == 8000, 20, f"seed {seed}")
    process.kill()
    process.communicate()

    found = Journal(place.journal)
    assert found.damage == 0
    assert max(Counter((view.token, view.seq, view.part) for view in found.frames).values()) == 1
    by_process: dict[bytes, list[int]] = {}
    for view in found.frames:
        if view.part == 0:
            by_process.setdefault(view.token, []).append(view.seq)
    assert all(seqs == list(range(4000)) for seqs in by_process.values())
    holder.close()


def left_behind(place: Place, *seqs: int) -> None:
    """Make an overflow whose owner has ended."""
    owner = Overflow(place.overflow, token=TOKEN, pid=2**22 + 1, limit=10**6)
    for seq in seqs:
        owner.append([framed(seq)], 20)
    owner.count("queue_full", 10)
    owner.close()


def test_an_overflow_without_an_owner_is_journaled_and_passed_on(place: Place, start: Start) -> None:
    left_behind(place, 1, 2, 3)
    put = place.record_queue()
    intake = start()

    wait_until(lambda: Journal(place.journal).seqs == [1, 2, 3])
    found = intake.adoption.adopted.get(timeout=PATIENCE)
    assert found.drops == {"queue_full": {"DEBUG": 1}}
    found.remove()
    put.close()


def test_a_journaled_overflow_is_not_journaled_again_by_the_next_process(place: Place, start: Start) -> None:
    """The first process was killed after it had journaled the frames, before it had accounted for the drops."""
    left_behind(place, 1, 2, 3)
    put = place.record_queue()
    start().adoption.adopted.get(timeout=PATIENCE).close()

    found = start().adoption.adopted.get(timeout=PATIENCE)

    assert found.drops == {"queue_full": {"DEBUG": 1}}
    assert Journal(place.journal).seqs == [1, 2, 3]
    found.remove()
    put.close()


def test_no_overflow_is_adopted_before_its_drops_can_be_accounted_for(place: Place) -> None:
    left_behind(place, 1)
    put = place.record_queue()
    pipe = place.pipe()
    intake = Intake(pipe, Appender(pipe, Writer(str(place.journal), segment_bytes=1000)), place.overflow)

    intake.adoption.adopt()
    assert intake.adoption.adopted.empty()
    intake.adoption.allowed.set()
    intake.adoption.adopt()
    intake.adoption.adopted.get().remove()

    assert Journal(place.journal).seqs == [1]
    put.close()
    intake._appender.close()
    os.close(pipe)


def test_frames_in_the_pipe_are_journaled_before_the_overflow_of_their_process(place: Place) -> None:
    """A frame in the pipe may be the first one of an event whose other frames are in the overflow."""
    left_behind(place, 2, 3)
    put = place.record_queue()
    pipe = place.pipe()
    os.write(put._pipe.open(), framed(1))
    intake = Intake(pipe, Appender(pipe, Writer(str(place.journal), segment_bytes=1000)), place.overflow)
    intake.adoption.allowed.set()

    intake.adoption.adopt()

    assert Journal(place.journal).seqs == [1, 2, 3]
    intake.adoption.adopted.get().remove()
    put.close()
    intake._appender.close()
    os.close(pipe)


def test_an_overflow_is_not_appended_inside_a_frame(place: Place, start: Start) -> None:
    """An earlier process was killed, or the disk was full, after half a frame: the rest is still in the pipe."""
    left_behind(place, 7)
    whole = framed(1, 3000)
    segment = place.journal / "000000000001.seg"
    segment.write_bytes(framed(0) + whole[:1000])
    segment.chmod(0o600)
    end = os.open(place.queue, os.O_RDWR | os.O_NONBLOCK)
    os.write(end, whole[1000:] + framed(2))
    pipe = place.pipe()
    intake = Intake(pipe, Appender(pipe, Writer(str(place.journal), segment_bytes=1 << 20)), place.overflow)
    intake.adoption.allowed.set()
    intake.adoption.adopt()
    assert intake.adoption.adopted.empty()
    intake._appender.close()
    os.close(pipe)

    start()

    wait_until(lambda: len(Journal(place.journal).frames) == 4)
    found = Journal(place.journal)
    assert found.seqs == [0, 1, 2, 7]
    assert found.damage == 0
    os.close(end)


@pytest.fixture
def small_disk(place: Place) -> Iterator[Place]:
    with tmpfs(place.journal, "128k"):
        yield place


def test_a_full_disk_blocks_no_writer_and_loses_nothing(small_disk: Place, start: Start) -> None:
    ballast = small_disk.journal / "ballast"
    ballast.write_bytes(b"." * 60_000)
    intake = start(segment_bytes=20_000)
    put = small_disk.record_queue()
    for _ in range(80):
        put.put_nowait(b"." * 1000, level=20)
    wait_until(lambda: intake.trouble)
    left_behind(small_disk, 500)

    ballast.unlink()

    wait_until(lambda: set(range(80)) <= set(Journal(small_disk.journal).seqs), 10)
    wait_until(lambda: 500 in Journal(small_disk.journal).seqs, 10)
    wait_until(lambda: not intake.trouble)
    found = Journal(small_disk.journal)
    assert found.damage == 0
    assert max(Counter(found.seqs).values()) == 1
    put.close()


def test_an_overflow_that_a_full_disk_took_in_part_is_journaled_once(small_disk: Place, start: Start) -> None:
    """Also when the shipper process is killed before the disk has space again."""
    ballast = small_disk.journal / "ballast"
    ballast.write_bytes(b"." * 60_000)
    left_behind(small_disk, *range(800))
    put = small_disk.record_queue()
    first = start()
    wait_until(lambda: first.trouble)
    first.stop()
    wait_until(lambda: first._appender.writer._fd < 0)
    assert 0 < len(Journal(small_disk.journal).seqs) < 800

    second = start()
    wait_until(lambda: second.trouble)
    ballast.unlink()

    wait_until(lambda: not second.adoption.adopted.empty(), 10)
    assert Journal(small_disk.journal).seqs == list(range(800))
    put.close()


def test_a_writer_stopped_inside_an_event_blocks_no_other_writer(place: Place, start: Start) -> None:
    """The other frames of its event arrive once the writer is continued (SIGCONT)."""
    start()
    large = frame.encode(b"." * 200_000, token=b"stopped.", seq=0, pid=1)
    end = os.open(place.queue, os.O_RDWR | os.O_NONBLOCK)

    def work() -> None:
        for piece in large[:10]:
            os.write(end, piece)
        os.kill(os.getpid(), signal.SIGSTOP)
        for piece in large[10:]:
            os.write(end, piece)

    pid = forked(work)
    os.waitpid(pid, os.WUNTRACED)
    put = place.record_queue()
    put.put_nowait(b"other")

    wait_until(lambda: put.token in {view.token for view in Journal(place.journal).frames})
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    wait_until(lambda: len(Journal(place.journal).frames) == len(large) + 1)
    put.close()
    os.close(end)
