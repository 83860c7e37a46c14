"""Events of several frames: put together, waited for, and given up."""
from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shipper.journal.cursors.assembler import DEAD_WRITER, MAX_PARTS, SLOW_WRITER
from shipper.journal.cursors.cursor import Cursor
from shipper.journal.writer import Writer
from shipper.transport.memory.shared_file import process_is_gone

from ..support.journals import MUCH, Clock, Open, deliver, frames, whole


def test_interleaved_frames_of_several_writers_are_put_together(writer: Writer, cursor: Open) -> None:
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


def test_what_a_writer_writes_last_is_waited_for_however_long_it_waited_itself(spool: Path, clock: Clock) -> None:
    """The pipe was full for a while, and the writer ended once it had written the rest, which is still in the pipe."""
    ended = False
    writer = Writer(str(spool), segment_bytes=1 << 20)
    reading = Cursor(str(spool / "cursor.json"), str(spool), clock=clock, gone=lambda pid: ended)
    first, second = frames(b"x" * 5000, 0)
    writer.append(first)
    deliver(reading)
    clock.now += 10 * DEAD_WRITER
    ended = True
    assert deliver(reading) == []
    clock.now += DEAD_WRITER - 0.1
    assert deliver(reading) == []

    writer.append(second)

    assert deliver(reading) == [0]
    assert reading.counts == {"delivered": 1}
    reading.close()
    writer.close()


def test_a_dead_writers_unfinished_event_is_not_given_up_for_a_full_disk(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    first, second = frames(b"x" * 5000, 0)
    writer.append(first)
    reading = cursor(gone=True)
    deliver(reading)
    for _ in range(10):
        clock.now += DEAD_WRITER
        reading.set_drain_mode(final_to=None, disk_blocked=True)
        assert deliver(reading) == []
    clock.now += DEAD_WRITER - 0.1

    writer.append(second)

    assert deliver(reading) == [0]
    assert reading.counts == {"delivered": 1}


def test_for_a_full_disk_an_unfinished_event_is_not_waited_for_without_end(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    """The segments behind it, which have to stay while it is waited for, may be what fills the disk."""
    writer.append(frames(b"x" * 5000, 0)[0])
    reading = cursor(gone=True)
    deliver(reading)
    clock.now += SLOW_WRITER

    reading.set_drain_mode(final_to=None, disk_blocked=True)
    deliver(reading)

    assert reading.counts == {"incomplete": 1}


def test_when_no_process_writes_only_events_that_began_before_are_given_up_at_once(
    writer: Writer, cursor: Open, clock: Clock
) -> None:
    """A deliverer may learn that all writers have ended only after the next one has begun."""
    writer.append(frames(b"x" * 5000, 0)[0])
    reading = cursor(gone=True)
    reading.set_drain_mode(writer.position)
    first, second = frames(b"x" * 5000, 1)
    writer.append(first)
    deliver(reading)
    writer.append(second)

    assert deliver(reading) == [1]
    assert reading.counts == {"incomplete": 1, "delivered": 1}


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


def test_a_first_frame_that_came_twice_counts_as_often_as_in_the_account(
    writer: Writer, cursor: Open
) -> None:
    first, second = frames(b"x" * 5000, 0)
    writer.append(first + first + second)
    reading = cursor()
    reading.count_from(2)

    assert deliver(reading) == [0]
    assert reading.base + reading.settled == 2


def test_a_process_that_has_ended_is_recognised() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    assert not process_is_gone(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert process_is_gone(pid)
