"""New errors do not wait behind a long backlog; every event is one lane's, so none is lost, split or counted twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.journal.cursors.cursor import Cursor
from shipper.journal.entry import DELIVERED, Entry
from shipper.journal.segments import segment_path
from shipper.journal.writer import Writer
from shipper.transport import frame

from ..support.descriptors import few_descriptors
from ..support.journals import BEHIND_ALL

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

    def frames(self, level: int, size: int) -> tuple[int, list[bytes]]:
        """The next event's number and its frames, which are not written yet."""
        self.numbers += 1
        number = self.numbers - 1
        return number, frame.encode(b"x" * size, token=b"tokentok", seq=number, pid=1, level=level)

    def write(self, *frames: bytes) -> None:
        for each in frames:
            self.writer.append(each)
            self.writer.rotate_if_due()

    def log(self, count: int, level: int = INFO, size: int = 1000) -> range:
        for _ in range(count):
            _, frames = self.frames(level, size)
            self.write(*frames)
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

    @property
    def lane(self) -> dict[str, Any] | None:
        """The express lane in the cursor file, None without one."""
        lane: dict[str, Any] | None = json.loads((self.folder / "cursor.json").read_text()).get("lane")
        return lane

    def open_lane(self) -> list[int]:
        """Deliver from a long backlog, so that an express lane begins at the journal's present end."""
        sent = self.deliver(self.read(4))
        assert self.lane is not None
        return sent

    def reopen(self) -> None:
        """Open the cursor again as after a SIGKILL: what was not committed is forgotten."""
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

    hand += journal.read(0)  # looks at the backlog: nothing has been delivered so far

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
def test_a_process_that_is_killed_meanwhile_goes_on_without_duplicates(long_one: Journal, size: int) -> None:
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


# -- events of several frames: the lane in which the first frame begins delivers all of it -----------------------------


LARGE = 15_000  # bytes: an event of four frames



def _check_all_delivered_once(journal: Journal, sent: list[int]) -> None:
    """Check that each event after the ten that `long_one` has delivered was delivered once."""
    journal.cursor.set_drain_mode(final_to=BEHIND_ALL)
    sent += journal.deliver_all()

    assert sorted(sent) == list(range(10, journal.numbers))
    assert journal.cursor.counts == {DELIVERED: journal.numbers}


@pytest.mark.parametrize("restart", [False, True], ids=["", "and a restart"])
@pytest.mark.parametrize("level", [INFO, ERROR])
@pytest.mark.parametrize("before", [1, 2, 3])
def test_an_event_that_begins_before_the_lane_is_delivered_whole(
    long_one: Journal, before: int, level: int, restart: bool
) -> None:
    _, frames = long_one.frames(level, LARGE)
    long_one.write(*frames[:before])

    sent = long_one.open_lane()
    long_one.write(*frames[before:])
    long_one.log(3, ERROR)
    sent += long_one.deliver(long_one.read())
    if restart:
        long_one.reopen()

    _check_all_delivered_once(long_one, sent)


@pytest.mark.parametrize("behind", [0, 30], ids=["", "with errors between its frames"])
def test_the_rest_of_an_event_may_come_segments_later_than_the_lane_begins(long_one: Journal, behind: int) -> None:
    _, frames = long_one.frames(ERROR, LARGE)
    long_one.write(frames[0])
    sent = long_one.open_lane()
    for each in frames[1:]:
        long_one.log(behind, ERROR)
        long_one.log(30)
        long_one.write(each)
        sent += long_one.deliver(long_one.read())

    _check_all_delivered_once(long_one, sent)


@pytest.mark.parametrize("restart", [False, True], ids=["", "and a restart"])
@pytest.mark.parametrize("before", [1, 2, 3])
def test_an_event_whose_rest_comes_when_the_lane_has_ended_is_delivered_whole(
    long_one: Journal, before: int, restart: bool
) -> None:
    sent = long_one.open_lane()
    _, frames = long_one.frames(ERROR, LARGE)
    long_one.write(*frames[:before])
    sent += long_one.deliver_all()
    if restart:
        long_one.reopen()
        sent += long_one.deliver_all()
    long_one.write(*frames[before:])

    _check_all_delivered_once(long_one, sent)


@pytest.mark.parametrize("restart", [False, True], ids=["", "and a restart"])
def test_an_event_that_is_settled_before_one_that_began_earlier_is_not_read_again(
    long_one: Journal, restart: bool
) -> None:
    sent = long_one.open_lane()
    _, early = long_one.frames(ERROR, LARGE)
    _, late = long_one.frames(ERROR, LARGE)
    long_one.write(early[0], late[0], early[1], late[1], late[2], late[3])
    sent += long_one.deliver(long_one.read())
    long_one.write(*early[2:])
    sent += long_one.deliver(long_one.read())
    if restart:
        long_one.reopen()

    _check_all_delivered_once(long_one, sent)


@pytest.mark.parametrize("floor", [1, 3, 4, 12, 13])
def test_the_quota_counts_an_event_on_both_sides_of_the_lanes_beginning_once(long_one: Journal, floor: int) -> None:
    _, frames = long_one.frames(ERROR, LARGE)
    long_one.write(frames[0])
    sent = long_one.open_lane()
    long_one.write(*frames[1:])
    long_one.log(20, ERROR)
    sent += long_one.deliver(long_one.read())

    long_one.cursor.skip_to(floor)
    long_one.cursor.commit()
    long_one.cursor.set_drain_mode(final_to=BEHIND_ALL)
    sent += long_one.deliver_all()

    counts = dict(long_one.cursor.counts)
    assert len(sent) == len(set(sent)) == counts.pop(DELIVERED) - 10
    assert counts.pop("quota", 0) == long_one.numbers - 10 - len(sent)
    assert not counts, "nothing is incomplete"


def test_a_cursor_file_that_an_earlier_version_wrote_while_a_lane_was_open_is_gone_on_with(long_one: Journal) -> None:
    """Its lane had skipped the frames of an event that begins before the lane; the cursor is still at that event."""
    number, frames = long_one.frames(ERROR, LARGE)
    long_one.write(frames[0])
    border = long_one.writer.position
    long_one.write(*frames[1:])
    (error,) = long_one.log(1, ERROR)
    end = long_one.writer.position
    long_one.cursor.close()
    saved = {
        "segment": 1,
        "offset": 0,
        "base": 0,
        "counts": {DELIVERED: 1},  # the error, by the express lane
        "dropped": {},
        "lane": {"start": border._asdict(), "end": end._asdict(), "level": ERROR},
    }
    (long_one.folder / "cursor.json").write_text(json.dumps(saved))
    long_one.cursor = long_one._open()

    sent = long_one.deliver_all()

    assert sorted(sent) == [each for each in range(long_one.numbers) if each != error]
    assert number in sent
    assert long_one.cursor.counts == {DELIVERED: long_one.numbers}
