"""The journal: one writer, cursors that settle every event once, damage, full disks, crashes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shipper.event.model import EventId
from shipper.journal import reader as journal
from shipper.journal.assembler import DEAD_WRITER, MAX_PARTS, SLOW_WRITER
from shipper.journal.cursor import Cursor
from shipper.journal.cursor_files import begin_cursor, saved_positions
from shipper.journal.entry import DEAD, DELIVERED
from shipper.journal.reader import HALF_FRAME_SECONDS, Reader
from shipper.journal.segments import Position, release, segment_path, segments, size_on_disk
from shipper.journal.writer import Writer
from shipper.spool.files import open_file
from shipper.transport import frame
from shipper.transport.shared_file import process_is_gone

from ..support.descriptors import few_descriptors
from ..support.disks import tmpfs
from ..support.waiting import PATIENCE

TOKEN = b"tokentok"
MUCH = 10**9


def frames(payload: bytes, seq: int, *, level: int = 20, token: bytes = TOKEN, pid: int = 1) -> list[bytes]:
    return frame.encode(payload, token=token, seq=seq, pid=pid, level=level)


def whole(payload: bytes, seq: int, *, level: int = 20) -> bytes:
    return b"".join(frames(payload, seq, level=level))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(spool: Path) -> Iterator[Writer]:
    made = Writer(str(spool), segment_bytes=1000)
    yield made
    made.close()


Open = Callable[..., Cursor]


@pytest.fixture
def cursor(spool: Path, clock: Clock) -> Iterator[Open]:
    opened: list[Cursor] = []

    def make(*, level: int = 0, gone: bool = False) -> Cursor:
        path = str(spool / "cursor.json")
        opened.append(Cursor(path, str(spool), level=level, clock=clock, gone=lambda pid: gone))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def segment(spool: Path, number: int, data: bytes) -> None:
    path = Path(segment_path(str(spool), number))
    path.write_bytes(data)
    path.chmod(0o600)


def deliver(cursor: Cursor, most: int = MUCH) -> list[int]:
    entries = cursor.read(most, MUCH)
    for entry in entries:
        cursor.settle(entry, DELIVERED)
    cursor.commit()
    return [entry.id.seq for entry in entries]


def test_a_batch_is_bounded_by_count_and_bytes(writer: Writer, cursor: Open) -> None:
    for seq in range(10):
        writer.append(whole(b"x" * 100, seq))
    reading = cursor()

    assert [entry.id.seq for entry in reading.read(3, MUCH)] == [0, 1, 2]
    assert [entry.id.seq for entry in reading.read(MUCH, 150)] == [3, 4]


def test_a_cursor_never_passes_an_event_that_is_not_settled(writer: Writer, cursor: Open, spool: Path) -> None:
    for seq in range(5):
        writer.append(whole(b"x", seq))
    reading = cursor()
    entries = reading.read(5, MUCH)
    for entry in entries[1:]:
        reading.settle(entry, DELIVERED)
    reading.commit()

    assert reading.position == entries[0].start
    assert deliver(cursor()) == [0, 1, 2, 3, 4]


def test_position_and_counts_are_of_one_moment(writer: Writer, cursor: Open) -> None:
    for seq in range(6):
        writer.append(whole(b"x", seq))
    first = cursor()
    deliver(first, 2)
    entry = first.read(1, MUCH)[0]
    first.settle(entry, DEAD)
    first.commit()
    first.read(2, MUCH)

    again = cursor()

    assert again.counts == {"delivered": 2, "dead": 1}
    assert deliver(again) == [3, 4, 5]
    assert again.settled == 6


def test_interleaved_fragments_of_several_writers_are_put_together(writer: Writer, cursor: Open) -> None:
    events = {bytes([n]) * 8: bytes([n]) * 9000 for n in range(3)}
    lanes = [frames(payload, 0, token=token) for token, payload in events.items()]
    for pieces in zip(*lanes, strict=True):
        for piece in pieces:
            writer.append(piece)
    reading = cursor()

    assert {entry.id.token: entry.payload for entry in reading.read(9, MUCH)} == events


@pytest.mark.parametrize(("gone", "patience"), [(True, DEAD_WRITER), (False, SLOW_WRITER)])
def test_an_unfinished_event_is_given_up_after_a_while(
    writer: Writer, cursor: Open, clock: Clock, gone: bool, patience: float
) -> None:
    first, second, _ = frames(b"x" * 9000, 0, level=40)
    writer.append(first + second + whole(b"behind", 1))
    reading = cursor(gone=gone)
    assert deliver(reading) == [1]
    assert reading.settled == 0

    clock.now += patience - 0.1
    deliver(reading)
    assert reading.settled == 0

    clock.now += 0.2
    deliver(reading)
    assert reading.counts == {"incomplete": 1, "delivered": 1}
    assert reading.dropped == {"incomplete": {"ERROR": 1}}


def test_a_dead_writers_unfinished_event_is_not_given_up_for_a_full_disk(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    first, second = frames(b"x" * 5000, 0)
    writer.append(first)
    reading = cursor(gone=True)
    deliver(reading)
    for _ in range(10):
        clock.now += DEAD_WRITER
        reading.set_drain_mode(no_writers=False, disk_blocked=True)
        assert deliver(reading) == []
    clock.now += DEAD_WRITER - 0.1

    writer.append(second)

    assert deliver(reading) == [0]
    assert reading.counts == {"delivered": 1}


def test_for_a_full_disk_an_unfinished_event_is_not_waited_for_without_end(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    """What is behind it could be what fills the disk."""
    writer.append(frames(b"x" * 5000, 0)[0])
    reading = cursor(gone=True)
    deliver(reading)
    clock.now += SLOW_WRITER

    reading.set_drain_mode(no_writers=False, disk_blocked=True)
    deliver(reading)

    assert reading.counts == {"incomplete": 1}


def test_the_rest_of_an_event_may_come_late(writer: Writer, cursor: Open, clock: Clock) -> None:
    first, second, third = frames(b"x" * 9000, 0)
    writer.append(first)
    reading = cursor(gone=True)
    deliver(reading)
    clock.now += DEAD_WRITER - 0.1
    writer.append(second)
    deliver(reading)
    clock.now += DEAD_WRITER - 0.1
    writer.append(third)

    assert deliver(reading) == [0]
    assert reading.counts == {"delivered": 1}


def test_an_unfinished_event_does_not_stop_a_cursor_with_a_full_window(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    first, second = frames(b"x" * 5000, 0)
    writer.append(first)
    for start in range(1, 40_001, 1000):
        writer.append(b"".join(whole(b"y", seq) for seq in range(start, start + 1000)))
    writer.append(second)
    reading = cursor(gone=True)

    seen: list[int] = []
    while batch := deliver(reading, 500):
        seen += batch
        clock.now += 1.0

    assert sorted(seen) == list(range(40_001))
    assert reading.counts == {"delivered": 40_001}


def test_a_dead_writers_unfinished_event_is_given_up_before_the_backlog_ends(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    writer.append(frames(b"x" * 5000, 0)[0])
    reading = cursor(gone=True)
    deliver(reading)
    for seq in range(1, 2001):
        writer.append(whole(b"y", seq))
    clock.now += DEAD_WRITER + 1
    deliver(reading, 10)
    for seq in range(2001, 4001):
        writer.append(whole(b"y", seq))
    deliver(reading, 2000)
    deliver(reading, 10)

    assert reading.counts["incomplete"] == 1
    assert reading.position_read < writer.position


def test_what_is_below_the_level_settles_at_once(writer: Writer, cursor: Open) -> None:
    for seq in range(1000):
        writer.append(whole(b"x", seq, level=40 if seq % 100 == 99 else 10))
    reading = cursor(level=30)

    assert deliver(reading) == list(range(99, 1000, 100))
    assert reading.counts == {"filtered": 990, "delivered": 10}
    assert reading.position == writer.position


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"segment": 1}',
        b'{"segment": -1, "offset": 0, "counts": {}, "dropped": {}, "base": 0}',
        b'{"segment": 1, "offset": Infinity, "counts": {}, "dropped": {}, "base": 0}',
        b'{"segment": 1, "offset": 0, "counts": [], "dropped": {}, "base": 0}',
        b'{"segment": 1, "offset": 0, "counts": {}, "dropped": {"a": 1}, "base": 0}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_cursor_file_means_everything_again(
    writer: Writer, cursor: Open, spool: Path, content: bytes
) -> None:
    writer.append(whole(b"x", 0) + whole(b"x", 1))
    (spool / "cursor.json").write_bytes(content)
    reading = cursor()

    assert reading.base == -1
    assert deliver(reading) == [0, 1]
    assert reading.counts == {"delivered": 2}


def test_a_cursor_whose_segment_was_cut_shorter_sees_what_is_written_next(
    writer: Writer, cursor: Open, spool: Path
) -> None:
    writer.append(whole(b"x", 0) + whole(b"x", 1))
    deliver(cursor())
    writer.close()
    os.truncate(segment_path(str(spool), 1), len(whole(b"x", 0)) + 5)

    reading = cursor()
    with contextlib.closing(Writer(str(spool), segment_bytes=1000)) as next_writer:
        next_writer.append(whole(b"y", 2))
        assert deliver(reading) == [2]


def test_a_segment_that_was_deleted_under_its_cursor_begins_again_at_its_start(
    writer: Writer, cursor: Open, spool: Path
) -> None:
    writer.append(whole(b"x", 0))
    deliver(cursor())
    writer.close()
    os.unlink(segment_path(str(spool), 1))

    reading = cursor()
    with contextlib.closing(Writer(str(spool), segment_bytes=1000, first=reading.position.segment)) as next_writer:
        next_writer.append(whole(b"y", 1) + whole(b"y", 2))
        assert deliver(reading) == [1, 2]


def test_missing_empty_and_foreign_segments_are_passed_over(cursor: Open, spool: Path) -> None:
    segment(spool, 1, whole(b"x", 0))
    segment(spool, 3, b"")
    segment(spool, 4, b"what is this?")
    segment(spool, 5, whole(b"x", 1))
    (spool / "000000000006.seg").symlink_to("/etc/passwd")
    (spool / "000000000007.seg").mkdir()
    os.mkfifo(spool / "000000000008.seg")
    segment(spool, 9, whole(b"x", 2))
    os.link(segment_path(str(spool), 9), spool / "elsewhere")
    segment(spool, 10, whole(b"x", 3)[:-1])
    segment(spool, 11, whole(b"x", 4))
    for name in ("notes.txt", "x.seg", "-1.seg", "٣.seg", ".seg"):
        (spool / name).touch()

    assert deliver(cursor()) == [0, 1, 4]
    assert segments(str(spool)) == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_folder_that_is_as_it_was_is_not_looked_through_again(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment(spool, 1, whole(b"x", 0))
    _changed(spool, time.time() - 10)
    looks: list[str] = []
    listdir = os.listdir

    def looking(path: str) -> list[str]:
        looks.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", looking)
    with contextlib.closing(Reader(str(spool), Position(1, 0))) as reader:
        assert _read(reader) == [0]
        for _ in range(5):
            assert _read(reader) == []
        assert len(looks) == 1

        segment(spool, 3, whole(b"x", 1))

        assert _read(reader) == [1]


@pytest.mark.parametrize("age", [0.0, -3600.0], ids=["just now", "in the future"])
def test_a_segment_is_seen_that_came_at_the_same_time_as_a_look(spool: Path, age: float) -> None:
    """A file system's clock may stand still for as long as two seconds."""
    segment(spool, 1, whole(b"x", 0))
    now = time.time() - age
    _changed(spool, now)
    with contextlib.closing(Reader(str(spool), Position(1, 0))) as reader:
        assert _read(reader) == [0]
        assert _read(reader) == []
        segment(spool, 2, whole(b"x", 1))
        _changed(spool, now)

        assert _read(reader) == [1]


def _changed(folder: Path, at: float) -> None:
    os.utime(folder, (at, at))


def _read(reader: Reader) -> list[int]:
    stretch = reader.read()
    return [] if stretch is None else [view.seq for view in stretch.scan.frames]


def test_a_segment_that_can_not_be_opened_for_now_is_not_passed_over(spool: Path) -> None:
    """Out of descriptors: an error to wait on, and no reason to lose a segment."""
    segment(spool, 1, whole(b"x", 0))
    segment(spool, 2, whole(b"x", 1))
    reader = Reader(str(spool), Position(1, 0))
    assert reader._later() == 2
    with few_descriptors(0), pytest.raises(OSError, match="Too many open files"):
        reader.read()

    assert _read(reader) == [0]
    reader.close()


def test_events_that_were_taken_are_not_forgotten_when_the_journal_can_not_be_read_on(
    writer: Writer, cursor: Open
) -> None:
    """Out of descriptors just now: a look for the next segment fails, and what stands before it has been read."""
    reading = cursor()
    writer.append(whole(b"x", 0))
    assert deliver(reading) == [0]
    writer.append(whole(b"x", 1))

    with few_descriptors(0):
        (entry,) = reading.read(MUCH, MUCH)
        with pytest.raises(OSError, match="Too many open files"):
            reading.read(MUCH, MUCH)

    reading.settle(entry, DELIVERED)
    writer.append(whole(b"x", 2))
    assert deliver(reading) == [2]
    assert reading.counts == {DELIVERED: 3}


def test_a_half_frame_at_the_end_is_passed_once_its_rest_is_overdue(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    writer.append(whole(b"x" * 200, 0)[:100] + whole(b"y", 1))
    reading = cursor()

    assert deliver(reading) == []
    clock.now += HALF_FRAME_SECONDS
    assert deliver(reading) == [1]


@pytest.mark.parametrize("first", [0, 1, 4095])
def test_a_frame_inside_an_event_is_none_even_where_a_read_ends(
    writer: Writer, cursor: Open, first: int
) -> None:
    forged = whole(b"forged", 666) * 20
    size, seq = 0, 0
    while size < journal.CHUNK * 2:
        event = whole(b"." * (first if not seq else 0) + forged, seq)
        writer.append(event)
        size, seq = size + len(event), seq + 1

    assert deliver(cursor()) == list(range(seq))


def test_the_quota_gives_up_the_old_and_hands_out_the_rest(writer: Writer, cursor: Open) -> None:
    for seq in range(60):
        writer.append(whole(b"x" * 100, seq, level=30))
        writer.rotate_if_due()
    reading = cursor()
    in_hand = reading.read(3, MUCH)
    reading.skip_to(3)
    reading.commit()

    assert [entry.outcome for entry in in_hand] == ["quota"] * 3
    given_up = reading.counts["quota"]
    assert reading.dropped == {"quota": {"WARNING": given_up}}
    assert reading.position == Position(3, 0)
    assert deliver(reading) == list(range(given_up, 60))
    assert reading.settled == 60


def test_a_part_of_another_size_does_not_break_an_event(writer: Writer, cursor: Open) -> None:
    two, three = frames(b"a" * 5000, 0), frames(b"b" * 9000, 0)
    writer.append(two[0] + three[2] + three[1] + two[1])
    reading = cursor()

    assert deliver(reading) == [0]
    assert reading.counts == {"delivered": 1}


def test_an_event_of_impossible_size_is_counted_and_not_waited_for(writer: Writer, cursor: Open) -> None:
    writer.append(frames(b"x" * 4052 * (MAX_PARTS + 1), 0)[0] + whole(b"y", 1))
    reading = cursor()

    assert deliver(reading) == [1]
    assert reading.counts == {"incomplete": 1, "delivered": 1}


def test_a_first_part_that_came_twice_is_counted_as_often_as_the_ledger_counts_it(
    writer: Writer, cursor: Open
) -> None:
    first, second = frames(b"x" * 5000, 0)
    writer.append(first + first + second)
    reading = cursor()
    reading.count_from(2)

    assert deliver(reading) == [0]
    assert reading.base + reading.settled == 2


def test_a_new_cursor_begins_with_what_comes_from_now_on(writer: Writer, cursor: Open, spool: Path) -> None:
    writer.append(whole(b"x", 0))
    begin_cursor(str(spool / "cursor.json"), str(spool))
    begin_cursor(str(spool / "cursor.json"), str(spool))
    writer.append(whole(b"x", 1))
    reading = cursor()
    reading.count_from(2)

    assert reading.base == 1
    assert deliver(reading) == [1]
    assert saved_positions(str(spool))["cursor"]["base"] == 1


@pytest.mark.parametrize("cut", [1, 30, 44, 60, 300])
def test_a_new_cursor_begins_at_a_frames_border(writer: Writer, cursor: Open, spool: Path, cut: int) -> None:
    """Intake may be inside a frame at that moment, and the account counts its event when it is whole."""
    writer.append(whole(b"x", 0))
    late = whole(b"x" * 1000, 1)
    os.pwrite(writer._fd, late[:cut], writer.position.offset)
    begin_cursor(str(spool / "cursor.json"), str(spool))
    os.pwrite(writer._fd, late, writer.position.offset)
    reading = cursor()
    reading.count_from(2)

    assert deliver(reading) == [1]
    assert reading.base + reading.settled == 2


def test_segments_that_everybody_has_passed_are_deleted_but_never_the_last(writer: Writer, spool: Path) -> None:
    for seq in range(40):
        writer.append(whole(b"x" * 100, seq))
        writer.rotate_if_due()
    last = segments(str(spool))[-1]

    assert release(str(spool), 3) == 2
    assert segments(str(spool)) == list(range(3, last + 1))
    release(str(spool), last + 10)
    assert segments(str(spool)) == [last]
    assert size_on_disk(str(spool)) < 1200


def test_a_writer_goes_on_at_the_end_of_the_newest_segment(spool: Path) -> None:
    segment(spool, 1, b"")
    segment(spool, 4, whole(b"x", 0))
    with contextlib.closing(Writer(str(spool), segment_bytes=1000)) as writer:
        writer.append(whole(b"x", 1))
        assert writer.position == Position(4, len(whole(b"x", 0) * 2))
        assert writer.ends_whole()


@pytest.mark.parametrize("cut", [1, 4, 30, 44, 60])
def test_a_writer_knows_when_the_journal_ends_inside_a_frame(spool: Path, cut: int) -> None:
    segment(spool, 1, whole(b"x" * 3000, 0) * 9 + whole(b"x" * 3000, 1)[:cut])
    with contextlib.closing(Writer(str(spool), segment_bytes=1000)) as writer:
        assert not writer.ends_whole()


FULL_DISK = """
import os, resource, sys
from shipper.transport import frame
from shipper.journal.writer import Writer
folder = sys.argv[1]
pipe, end = os.pipe2(os.O_NONBLOCK)
def put(seq):
    os.write(end, frame.encode(b"." * 1000, token=b"tokentok", seq=seq, pid=1)[0])
writer = Writer(folder, segment_bytes=1 << 30)
for seq in range(40):
    put(seq)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
failed = 0
for _ in range(3):
    try:
        writer.splice(pipe, 1 << 22)
    except OSError:
        failed += 1
assert failed, "the disk was never full"
assert not writer.ends_whole()
try:
    writer.append(b"." * 100)
    raise SystemExit("appended to a full disk")
except OSError:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
try:
    while writer.splice(pipe, 1 << 22):
        pass
except BlockingIOError:
    pass
assert writer.ends_whole()
"""


def test_a_disk_that_was_full_loses_and_damages_nothing(spool: Path, cursor: Open) -> None:
    subprocess.run([sys.executable, "-c", FULL_DISK, str(spool)], check=True, timeout=PATIENCE)

    assert deliver(cursor()) == list(range(40))


@pytest.fixture
def small_disk(spool: Path) -> Iterator[Path]:
    """A file system with room for a quarter of a megabyte."""
    folder = spool / "disk"
    folder.mkdir(0o700)
    with tmpfs(folder, "256k"):
        yield folder


def test_of_what_a_full_disk_took_a_part_whole_frames_stay(small_disk: Path) -> None:
    """A reader may have come to them: cut off, they would have others come in a place that it has passed."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"." * 150_000)
    left = b"".join(whole(b"x" * 2000, seq) for seq in range(100))
    with contextlib.closing(Writer(str(small_disk), segment_bytes=1 << 30)) as writer:
        reading = Reader(str(small_disk), Position(1, 0))
        done = threading.Event()
        seen: list[int] = []

        def follow() -> None:
            while not done.is_set():
                seen.extend(_read(reading))

        following = threading.Thread(target=follow)
        following.start()
        while left:
            try:
                left = left[writer.append(left) :]
            except OSError:
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        left = left[writer.append(left) :]
                ballast.unlink()
                writer.append(whole(b"y", 100))
        writer.append(whole(b"y", 101))
        done.set()
        following.join()
        while more := _read(reading):
            seen += more

        assert sorted(seen) == list(range(102))
        assert reading.position == writer.position
        reading.close()


def test_what_is_no_frame_at_the_end_is_waited_for_before_it_counts_as_damage(
    spool: Path, writer: Writer, cursor: Open, clock: Clock
) -> None:
    """Who reads while half a frame is being cut off there may see zeros in its place."""
    writer.append(whole(b"x", 0))
    reading = cursor()
    assert deliver(reading) == [0]
    path = Path(segment_path(str(spool), 1))
    good = path.stat().st_size

    os.truncate(path, good + 100)
    clock.now += HALF_FRAME_SECONDS - 0.1
    assert deliver(reading) == []
    os.truncate(path, good)
    writer.append(whole(b"y", 1))
    assert deliver(reading) == [1]

    os.truncate(path, path.stat().st_size + 100)
    assert deliver(reading) == []
    clock.now += HALF_FRAME_SECONDS
    assert deliver(reading) == []
    assert reading.position.offset == path.stat().st_size


def test_a_real_full_disk_is_recovered_from_without_a_restart(small_disk: Path) -> None:
    pipe, end = os.pipe2(os.O_NONBLOCK)
    with contextlib.closing(Writer(str(small_disk), segment_bytes=1 << 30)) as writer:
        reading = Cursor(str(small_disk / "cursor.json"), str(small_disk))
        writer.append(whole(b"x", 0))
        assert deliver(reading) == [0]
        for seq in range(1, 31):
            os.write(end, whole(b"x" * 2000, seq))
        ballast = small_disk / "ballast"
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"." * 4096) == 4096:
                pass

        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                writer.splice(pipe, 1 << 22)
        assert not writer.ends_whole()
        with contextlib.suppress(OSError):
            deliver(reading)
        ballast.unlink()
        with contextlib.suppress(BlockingIOError):
            while writer.splice(pipe, 1 << 22):
                pass

        deliver(reading)
        reading.commit()
        assert reading.counts == {"delivered": 31}
        again = Cursor(str(small_disk / "cursor.json"), str(small_disk))
        assert again.position == reading.position == writer.position
        again.close()
        reading.close()
    os.close(pipe)
    os.close(end)


def test_a_reader_that_is_behind_a_deleted_segment_finds_the_next(writer: Writer, cursor: Open, spool: Path) -> None:
    for seq in range(60):
        writer.append(whole(b"x" * 100, seq))
        writer.rotate_if_due()
    reading = cursor()
    deliver(reading, 1)
    for number in segments(str(spool))[1:-1]:
        os.unlink(segment_path(str(spool), number))

    rest = deliver(reading)

    assert rest[-1] == 59
    assert rest == sorted(rest)


def test_many_small_events_are_read_quickly(spool: Path, cursor: Open) -> None:
    count = 50_000
    segment(spool, 1, b"".join(whole(b"x" * 150, seq) for seq in range(count)))
    reading = cursor()
    began = time.process_time()

    seen = 0
    while entries := reading.read(500, MUCH):
        seen += len(entries)
        for entry in entries:
            reading.settle(entry, DELIVERED)
        reading.commit()

    assert seen == count
    assert time.process_time() - began < count * 20e-6


def test_reading_one_by_one_costs_no_more_than_reading_many(spool: Path, cursor: Open) -> None:
    count = 5000
    segment(spool, 1, b"".join(whole(b"x" * 150, seq) for seq in range(count)))
    reading = cursor()
    began = time.process_time()

    while entries := reading.read(1, MUCH):
        reading.settle(entries[0], DELIVERED)

    assert time.process_time() - began < count * 60e-6


def test_an_id_is_the_same_at_every_look(writer: Writer, cursor: Open) -> None:
    writer.append(whole(b"x", 7))

    assert cursor().read(1, MUCH)[0].id == cursor().read(1, MUCH)[0].id == EventId(TOKEN, 7)


def test_a_process_that_is_gone_is_told_from_one_that_lives() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    assert not process_is_gone(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert process_is_gone(pid)


def test_a_cursor_file_is_plain_json(writer: Writer, cursor: Open, spool: Path) -> None:
    writer.append(whole(b"x", 0))
    reading = cursor()
    deliver(reading)

    saved = json.loads((spool / "cursor.json").read_text())
    assert saved["counts"] == {"delivered": 1}
    assert (saved["segment"], saved["offset"]) == writer.position


def test_a_rotation_that_fails_when_the_next_segment_is_there_goes_on_in_that_one(
    spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers do not come back from there."""

    def made_and_failed(path: str, flags: int) -> int:
        monkeypatch.undo()
        os.close(open_file(path, flags))
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    one, other = (frame.encode(b"." * 100, token=b"tokentok", seq=seq, pid=os.getpid())[0] for seq in range(2))
    writer = Writer(str(spool), segment_bytes=100)
    reader = Reader(str(spool), Position(1, 0))
    writer.append(one)
    monkeypatch.setattr("shipper.journal.writer.open_file", made_and_failed)

    assert not writer.rotate_if_due()
    found = [reader.read(), reader.read()]
    writer.append(other)
    found.append(reader.read())

    assert [view.seq for stretch in found if stretch is not None for view in stretch.scan.frames] == [0, 1]
    reader.close()
    writer.close()
