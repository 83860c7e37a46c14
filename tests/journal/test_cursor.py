"""New errors do not wait behind a long backlog, and nothing is counted twice or lost for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.cursor import Cursor
from shipper.journal.entry import DELIVERED, Entry
from shipper.journal.segments import segment_path
from shipper.journal.writer import Writer
from shipper.transport import frame

from ..support.descriptors import few_descriptors

INFO, ERROR = 20, 40
BACKLOG = 50_000  # bytes
MUCH = 10**9


class Clock:
    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0  # long enough for another look at the backlog
        return self.now


class Journal:
    """Events with numbers, and one cursor at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.writer = Writer(str(folder), segment_bytes=20_000)
        self.numbers = 0
        self.cursor = self._open()
        self.cursor.count_from(0)

    def _open(self) -> Cursor:
        path = str(self.folder / "cursor.json")
        return Cursor(path, str(self.folder), level=INFO, backlog=BACKLOG, clock=self.clock, gone=lambda pid: False)

    def log(self, count: int, level: int = INFO, size: int = 1000) -> range:
        for number in range(self.numbers, self.numbers + count):
            for piece in frame.encode(b"x" * size, token=b"tokentok", seq=number, pid=1, level=level):
                self.writer.append(piece)
            self.writer.rotate_if_due()
        self.numbers += count
        return range(self.numbers - count, self.numbers)

    def read(self, most: int = 10) -> list[Entry]:
        return self.cursor.read(most, MUCH)

    def deliver(self, entries: list[Entry]) -> list[int]:
        for entry in entries:
            self.cursor.settle(entry, DELIVERED)
        self.cursor.commit()
        return [entry.id.seq for entry in entries]

    def deliver_all(self) -> list[int]:
        numbers: list[int] = []
        while entries := self.read():
            numbers += self.deliver(entries)
        return numbers

    def reopen(self) -> None:
        """As after a SIGKILL: what was not committed is forgotten."""
        self.cursor.close()
        self.cursor = self._open()


@pytest.fixture
def journal(spool: Path) -> Iterator[Journal]:
    made = Journal(spool)
    yield made
    made.cursor.close()
    made.writer.close()


@pytest.fixture
def long_one(journal: Journal) -> Journal:
    """With a backlog of 200 events, the first ten of which were just delivered."""
    journal.log(200)
    assert journal.deliver(journal.read()) == list(range(10))
    return journal


def test_a_new_error_overtakes_a_long_backlog(long_one: Journal) -> None:
    long_one.deliver(long_one.read())
    long_one.log(5)
    (error,) = long_one.log(1, ERROR)

    first = long_one.deliver(long_one.read())

    assert first[0] == error
    assert first[1:] == list(range(20, 29)), "the backlog gets on too"
    assert long_one.deliver_all() == [*range(29, 205)]
    assert long_one.cursor.counts == {DELIVERED: 206}


def test_a_short_backlog_is_delivered_in_the_order_of_logging(journal: Journal) -> None:
    journal.log(40)
    journal.deliver(journal.read())
    journal.deliver(journal.read())
    journal.log(1, ERROR)

    assert journal.deliver_all() == list(range(20, 41))


def test_an_outage_does_not_change_the_order(journal: Journal) -> None:
    journal.log(5)
    hand = journal.read()
    journal.log(200, ERROR)
    journal.log(200)

    hand += journal.read(0)  # looks at the backlog: nothing was taken so far

    assert journal.deliver(hand) + journal.deliver_all() == list(range(405))


def test_errors_that_were_in_the_backlog_keep_their_place(journal: Journal) -> None:
    journal.log(100)
    journal.log(10, ERROR)
    journal.log(100)

    assert journal.deliver_all() == list(range(210))


def test_an_error_that_was_taken_is_not_forgotten_when_the_backlog_can_not_be_read_just_now(long_one: Journal) -> None:
    long_one.deliver(long_one.read())
    (first,) = long_one.log(1, ERROR)

    with few_descriptors(0):
        entries = long_one.read(100)  # up to the end of a segment
    assert entries[0].id.seq == first
    (second,) = long_one.log(1, ERROR)
    with few_descriptors(0):
        entries += long_one.read(100)
        assert entries[-1].id.seq == second
        with pytest.raises(OSError, match="Too many open files"):
            long_one.read(100)

    assert sorted(long_one.deliver(entries) + long_one.deliver_all()) == list(range(20, 202))
    assert long_one.cursor.counts == {DELIVERED: 202}


def test_a_flood_of_new_errors_takes_half_of_the_way(long_one: Journal) -> None:
    long_one.deliver(long_one.read())
    flood = long_one.log(100, ERROR)

    numbers = [long_one.deliver(long_one.read()) for _ in range(4)]

    assert [sum(number in flood for number in each) for each in numbers] == [5, 5, 5, 5]
    assert [sum(number in flood for number in long_one.deliver(long_one.read(1))) for _ in range(4)].count(1) == 2


@pytest.mark.parametrize("size", [1000, 9000])
def test_a_process_that_is_killed_meanwhile_goes_on_without_doubles(long_one: Journal, size: int) -> None:
    long_one.deliver(long_one.read())
    errors = list(long_one.log(7, ERROR, size))
    sent = long_one.deliver(long_one.read())
    assert sent[0] == errors[0]

    long_one.reopen()
    late = long_one.log(3, ERROR)
    sent += long_one.deliver_all()

    assert sorted(sent) == list(range(20, 210))
    assert sent.index(late[-1]) < sent.index(100)
    assert long_one.cursor.counts == {DELIVERED: 210}


def test_an_error_that_is_still_in_hand_when_the_backlog_ends_is_neither_doubled_nor_passed(long_one: Journal) -> None:
    long_one.deliver(long_one.read())
    long_one.log(2, ERROR)
    first, second, *rest = [*long_one.read(), *long_one.cursor.read(MUCH, MUCH)]
    assert (first.level, second.level) == (ERROR, ERROR)

    sent = long_one.deliver([second, *rest])
    long_one.log(5)
    sent += long_one.deliver_all()
    before = long_one.cursor.position
    sent += long_one.deliver([first])

    assert sorted(sent) == list(range(20, 207))
    assert long_one.cursor.position > before
    assert long_one.cursor.counts == {DELIVERED: 207}


def test_what_comes_in_the_place_of_a_lost_tail_is_not_taken_for_delivered(long_one: Journal) -> None:
    long_one.deliver(long_one.read())
    long_one.log(30, ERROR)
    sent = [*long_one.deliver(long_one.read()), *long_one.deliver(long_one.read())]
    last = int(json.loads((long_one.folder / "cursor.json").read_text())["lane"]["end"]["segment"])
    path = Path(segment_path(str(long_one.folder), last))
    long_one.writer.close()
    path.write_bytes(b"")
    long_one.writer = Writer(str(long_one.folder), segment_bytes=20_000)

    long_one.reopen()
    late = long_one.log(10, ERROR)

    assert set(late) <= set(long_one.deliver_all())
    assert sent


def test_the_quota_counts_every_event_once(long_one: Journal) -> None:
    long_one.deliver(long_one.read())
    long_one.log(10, ERROR)
    sent = long_one.deliver(long_one.read())

    long_one.cursor.skip_to(long_one.cursor.position.segment + 4)
    long_one.cursor.commit()
    sent += long_one.deliver_all()

    counts = long_one.cursor.counts
    assert counts[DELIVERED] == 20 + len(sent)
    assert sum(counts.values()) == 210
    assert counts["quota"] == 210 - 20 - len(sent)
