"""Kept segments: how many stay, for how long, and which go first when the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shipper.journal.cursors.cursor import Cursor
from shipper.journal.kept import Kept
from shipper.journal.segments import release, segment_path, segments

from ..support.journals import Clock, deliver, segment, whole


def spare(folder: str) -> int:
    return 0


@pytest.fixture
def journal(spool: Path) -> Path:
    """Three segments of 1,000 bytes, and a fourth one that grows."""
    made = spool / "journal"
    made.mkdir(mode=0o700)
    for number in range(1, 5):
        segment(made, number, b"." * 1000)
    return made


def release_into(kept: Kept, journal: Path) -> None:
    release(str(journal), 4, remove=kept.take)
    kept.prune()


@pytest.mark.parametrize(("most", "stay"), [(0, []), (999, []), (1000, [3]), (2500, [2, 3]), (10_000, [1, 2, 3])])
def test_the_newest_segments_stay_within_a_size(journal: Path, spool: Path, most: int, stay: list[int]) -> None:
    (spool / "kept").mkdir(mode=0o700)

    release_into(Kept(str(spool / "kept"), max_bytes=most, spare=spare), journal)

    assert segments(str(spool / "kept")) == stay
    assert segments(str(journal)) == [4]


def test_segments_stay_for_a_time_from_when_they_were_kept(journal: Path, spool: Path) -> None:
    """A segment may have been modified days ago: nothing was logged since, or no process ran."""
    clock = Clock()
    kept = Kept(str(spool / "kept"), max_seconds=600.0, clock=clock, spare=spare)
    os.utime(segment_path(str(journal), 1), (1.0, 1.0))

    release_into(kept, journal)
    clock.now += 599
    kept.prune()
    assert segments(str(spool / "kept")) == [1, 2, 3]

    clock.now += 1
    kept.prune()
    assert segments(str(spool / "kept")) == []


def test_a_clock_that_is_set_back_does_not_keep_segments_for_longer_than_twice(journal: Path, spool: Path) -> None:
    clock = Clock()
    clock.now = 1e9
    kept = Kept(str(spool / "kept"), max_seconds=600.0, clock=clock, spare=spare)
    release_into(kept, journal)

    clock.now = 5e8
    kept.prune()
    clock.now += 600
    kept.prune()

    assert segments(str(spool / "kept")) == []


def test_the_oldest_go_when_the_file_system_has_little_space(journal: Path, spool: Path) -> None:
    release_into(Kept(str(spool / "kept"), max_bytes=10_000, spare=lambda folder: -1500), journal)

    assert segments(str(spool / "kept")) == [3]


def test_without_the_setting_what_was_kept_before_goes(journal: Path, spool: Path) -> None:
    release_into(Kept(str(spool / "kept"), max_bytes=10_000, spare=spare), journal)

    Kept(str(spool / "kept"), spare=spare).prune()

    assert segments(str(spool / "kept")) == []


def test_without_the_setting_no_folder_is_made(journal: Path, spool: Path) -> None:
    release_into(Kept(str(spool / "kept"), spare=spare), journal)

    assert not (spool / "kept").exists()
    assert segments(str(journal)) == [4]


def test_a_segment_that_can_not_be_kept_is_deleted(journal: Path, spool: Path) -> None:
    (spool / "kept").write_text("in its place")

    release_into(Kept(str(spool / "kept"), max_bytes=10_000, spare=spare), journal)

    assert segments(str(journal)) == [4]


def test_a_cursor_that_begins_anew_gets_no_kept_event(spool: Path) -> None:
    """Its file was lost, or is damaged: it begins with the journal's first segment."""
    journal = spool / "journal"
    journal.mkdir(mode=0o700)
    segment(journal, 1, whole(b"kept", 1))
    segment(journal, 2, whole(b"left", 2))
    release(str(journal), 2, remove=Kept(str(spool / "kept"), max_bytes=10_000, spare=spare).take)

    cursor = Cursor(str(spool / "cursor.json"), str(journal))

    assert deliver(cursor) == [2]
    cursor.close()
