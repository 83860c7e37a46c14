"""What was journaled, kept or not, is read in order and once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shipper.journal.history import History, first_since
from shipper.journal.kept import Kept
from shipper.journal.segments import Position, release, segment_path

from ..support.journals import TOKEN, Clock, frames, segment, whole


@pytest.fixture
def journal(spool: Path) -> Path:
    made = spool / "journal"
    made.mkdir(mode=0o700)
    return made


def keep(spool: Path, before: int) -> None:
    kept = Kept(str(spool / "kept"), max_bytes=10**9, spare=lambda folder: 0)
    release(str(spool / "journal"), before, remove=kept.take)


def opened(spool: Path, first: int = 1, *, level: int = 0) -> History:
    return History(str(spool / "journal"), str(spool / "kept"), first, level=level)


def seqs(history: History, *, follow: bool = False) -> list[int]:
    return [each.id.seq for each in history.read(follow=follow)]


def test_kept_segments_come_before_the_journal(journal: Path, spool: Path) -> None:
    for number in range(1, 5):
        segment(journal, number, whole(b".", 2 * number) + whole(b".", 2 * number + 1))
    keep(spool, 3)

    history = opened(spool)

    assert seqs(history) == list(range(2, 10))
    history.close()


def test_segments_that_are_kept_while_they_are_read_are_neither_left_out_nor_read_twice(
    journal: Path, spool: Path
) -> None:
    for number in range(1, 6):
        segment(journal, number, whole(b".", 2 * number) + whole(b".", 2 * number + 1))
    history = opened(spool)
    reading = history.read(follow=True)

    found = []
    for each in reading:
        found.append(each.id.seq)
        keep(spool, min(5, len(found)))

    assert found == list(range(2, 12))
    history.close()


def test_an_event_whose_frames_are_in_kept_and_other_segments_is_whole(journal: Path, spool: Path) -> None:
    first, *rest = frames(b"x" * 9000, 1)
    segment(journal, 1, first + whole(b".", 2))
    segment(journal, 2, b"".join(rest))
    keep(spool, 2)

    history = opened(spool)

    assert [(each.id.seq, len(each.payload), each.start) for each in history.read()] == [
        (2, 1, Position(1, len(first))),
        (1, 9000, Position(1, 0)),
    ]
    history.close()


def test_an_event_that_was_journaled_twice_counts_once(journal: Path, spool: Path) -> None:
    segment(journal, 1, whole(b".", 1) + whole(b"x" * 9000, 2) + whole(b".", 1) + whole(b"x" * 9000, 2))

    history = opened(spool)

    assert seqs(history) == [1, 2]
    history.close()


def test_events_below_the_level_are_left_out(journal: Path, spool: Path) -> None:
    segment(journal, 1, whole(b".", 1, level=20) + whole(b"x" * 9000, 2, level=10) + whole(b".", 3, level=40))

    history = opened(spool, level=20)

    assert seqs(history) == [1, 3]
    history.close()


def test_thousands_of_gaps_hide_no_event_that_comes_late(journal: Path, spool: Path) -> None:
    many = [whole(b".", seq) for seq in range(0, 10_000, 2)]
    segment(journal, 1, b"".join(many) + whole(b".", 1))

    history = opened(spool)

    assert seqs(history)[-1] == 1
    history.close()


def test_what_comes_is_followed_across_segments_and_a_frame_in_halves(journal: Path, spool: Path) -> None:
    history = opened(spool)
    half = whole(b"....", 2)
    assert seqs(history, follow=True) == []  # there is no segment yet

    segment(journal, 1, whole(b".", 1) + half[:20])
    assert seqs(history, follow=True) == [1]

    segment(journal, 1, whole(b".", 1) + half)
    segment(journal, 2, whole(b".", 3))
    assert seqs(history, follow=True) == [2, 3]
    history.close()


def test_the_rest_of_a_frame_may_come_when_another_shipper_process_has_started(journal: Path, spool: Path) -> None:
    """Until then, the rest of the frame is in the pipe."""
    clock = Clock()
    history = History(str(journal), str(spool / "kept"), clock=clock)
    frame = whole(b"....", 1)
    segment(journal, 1, frame[:20])
    assert seqs(history, follow=True) == []

    clock.now += 10
    assert seqs(history, follow=True) == []
    segment(journal, 1, frame)

    assert seqs(history, follow=True) == [1]
    history.close()


def test_a_journal_that_is_removed_and_made_again_is_followed(journal: Path, spool: Path) -> None:
    segment(journal, 7, whole(b".", 1))
    history = opened(spool, 7)
    assert seqs(history, follow=True) == [1]

    shutil.rmtree(journal)
    assert seqs(history, follow=True) == []
    journal.mkdir(mode=0o700)
    segment(journal, 1, b"".join(frames(b".", 1, token=b"another1")))

    assert seqs(history, follow=True) == [1]
    history.close()


def test_damage_and_what_a_full_disk_freed_are_passed_over(journal: Path, spool: Path) -> None:
    segment(journal, 1, b"\0" * 100_000 + whole(b".", 1) + b"damage" + whole(b".", 2))

    history = opened(spool)

    assert seqs(history) == [1, 2]
    history.close()


def test_reading_ends_at_a_place_in_the_journal(journal: Path, spool: Path) -> None:
    segment(journal, 1, whole(b".", 1) + whole(b".", 2))

    history = opened(spool)

    assert [each.id for each in history.read(until=Position(1, len(whole(b".", 1))))] == [(TOKEN, 1)]
    history.close()


def test_a_time_begins_with_the_first_segment_that_may_have_later_events(journal: Path, spool: Path) -> None:
    for number in range(1, 5):
        segment(journal, number, whole(b".", number))
    keep(spool, 4)
    for number, kept_at in ((1, 100.0), (2, 200.0), (3, 300.0)):
        os.utime(segment_path(str(spool / "kept"), number), (kept_at, kept_at))

    found = [first_since(str(journal), str(spool / "kept"), since) for since in (50.0, 200.0, 201.0, 400.0)]

    assert found == [1, 2, 3, 4]
