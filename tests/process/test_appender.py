"""The order in which the journal takes frames from a removed queue and from the queue that replaces it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.segments import segment_path, segments
from shipper.journal.writer import Writer
from shipper.process.ingest.appender import Appender
from shipper.transport import frame

PARTS = frame.encode(b"x" * 9000, token=b"tokentok", seq=0, pid=1)


class Queues:
    """The writing ends of a removed queue and of its replacement, and an appender that reads from both."""

    def __init__(self, folder: Path, *, segment_bytes: int = sys.maxsize) -> None:
        self._folder = folder
        self.removed, self._reading = self._make()
        self.appender = Appender(self._reading, Writer(str(folder), segment_bytes=segment_bytes))
        self.made, other = self._make()
        assert self.appender.follow(other)

    def _make(self) -> tuple[int, int]:
        path = self._folder / "queue"
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK), reading

    def close(self) -> None:
        os.close(self.removed)
        os.close(self.made)
        while self.appender.splice() > 0:  # the appender closes a removed queue at its end
            pass
        self.appender.close()
        os.close(self._reading)

    def journal(self) -> frame.Scan:
        written = [Path(segment_path(str(self._folder), number)) for number in segments(str(self._folder))]
        return frame.scan(b"".join(path.read_bytes() for path in written), complete=True)

    @property
    def parts(self) -> list[int]:
        return [view.part for view in self.journal().frames]


@pytest.fixture
def queues(spool: Path) -> Iterator[Queues]:
    made = Queues(spool)
    yield made
    made.close()


@pytest.fixture
def small(spool: Path) -> Iterator[Queues]:
    """Queues with a journal whose segments are full after one frame."""
    made = Queues(spool, segment_bytes=len(PARTS[0]))
    yield made
    made.close()


def test_the_beginning_of_an_event_in_the_removed_queue_comes_before_the_rest_in_the_new_one(queues: Queues) -> None:
    os.write(queues.removed, PARTS[0])
    for piece in PARTS[1:]:
        os.write(queues.made, piece)

    while queues.appender.splice() > 0:
        pass

    assert queues.parts == [0, 1, 2]


def test_a_segment_that_ends_between_two_frames_of_the_removed_queue_changes_no_order(small: Queues) -> None:
    os.write(small.removed, PARTS[0])
    os.write(small.removed, PARTS[1])
    os.write(small.made, PARTS[2])

    while small.appender.splice() > 0:
        pass

    assert small.parts == [0, 1, 2]


@pytest.mark.parametrize("in_the_new_one", [0, 1])
def test_what_is_drained_before_an_overflow_comes_from_the_removed_queue_too(
    small: Queues, in_the_new_one: int
) -> None:
    """The overflow has the rest of the event."""
    for piece in PARTS[: 2 - in_the_new_one]:
        os.write(small.removed, piece)
    for piece in PARTS[2 - in_the_new_one : 2]:
        os.write(small.made, piece)

    small.appender.drain_pipe()
    small.appender.append(PARTS[2], lambda taken: None)

    assert small.parts == [0, 1, 2]
    assert not small.journal().damage


def test_what_the_journal_does_not_take_is_also_what_is_in_the_removed_queue(queues: Queues) -> None:
    os.write(queues.made, PARTS[0][:1000])
    queues.appender.splice()
    os.write(queues.made, PARTS[0][1000:])
    os.write(queues.removed, PARTS[1])
    os.write(queues.made, PARTS[2])

    assert {view.part for view in frame.scan(queues.appender.untaken(), complete=True).frames} == {0, 1, 2}


@pytest.mark.parametrize("first", ["removed", "made"])
def test_the_rest_of_a_frame_comes_from_the_queue_of_its_beginning(queues: Queues, first: str) -> None:
    begun, other = (queues.removed, queues.made) if first == "removed" else (queues.made, queues.removed)
    os.write(begun, PARTS[0][:1000])
    queues.appender.splice()
    os.write(other, PARTS[1])
    os.write(begun, PARTS[0][1000:])

    while queues.appender.splice() > 0:
        pass

    assert {view.part for view in queues.journal().frames} == {0, 1}
    assert not queues.journal().damage
