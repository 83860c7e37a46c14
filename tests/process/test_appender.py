"""The order in which the journal takes what comes through a queue that was removed and the one that was made after."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.segments import segment_path
from shipper.journal.writer import Writer
from shipper.process.ingest.appender import Appender
from shipper.transport import frame

PARTS = frame.encode(b"x" * 9000, token=b"tokentok", seq=0, pid=1)


class Queues:
    """A queue that was removed, and the one that was made in its place: their writing ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.removed, self._reading = self._make()
        self.appender = Appender(self._reading, Writer(str(folder)))
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
        return frame.scan(Path(segment_path(str(self._folder), 1)).read_bytes(), complete=True)


@pytest.fixture
def queues(spool: Path) -> Iterator[Queues]:
    made = Queues(spool)
    yield made
    made.close()


def test_the_beginning_of_an_event_in_the_removed_queue_comes_before_the_rest_in_the_new_one(queues: Queues) -> None:
    os.write(queues.removed, PARTS[0])
    for piece in PARTS[1:]:
        os.write(queues.made, piece)

    while queues.appender.splice() > 0:
        pass

    assert [view.part for view in queues.journal().frames] == [0, 1, 2]


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
