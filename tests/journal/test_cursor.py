"""The cursor: every event is settled once, and position and counts are saved together."""
from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from shipper.event.model import EventId
from shipper.journal.cursors.cursor_files import begin_cursor, saved_positions
from shipper.journal.entry import DEAD, DELIVERED
from shipper.journal.segments import Position, segment_path
from shipper.journal.writer import Writer

from ..support.disks import tmpfs
from ..support.journals import MUCH, TOKEN, Open, deliver, whole


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


def test_the_quota_gives_up_old_events_and_the_rest_is_delivered(writer: Writer, cursor: Open) -> None:
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
    """Intake may be inside a frame when a cursor begins; the account counts that event once it is whole."""
    writer.append(whole(b"x", 0))
    late = whole(b"x" * 1000, 1)
    os.pwrite(writer._fd, late[:cut], writer.position.offset)
    begin_cursor(str(spool / "cursor.json"), str(spool))
    os.pwrite(writer._fd, late, writer.position.offset)
    reading = cursor()
    reading.count_from(2)

    assert deliver(reading) == [1]
    assert reading.base + reading.settled == 2


def test_a_cursor_that_a_full_disk_has_no_space_for_is_not_begun(spool: Path) -> None:
    """A half-written file would be taken for a damaged one, or for one that another worker has begun."""
    (spool / "disk").mkdir()
    with tmpfs(spool / "disk", "8k") as disk:
        path = disk / "cursor.json"
        (disk / "others").write_bytes(bytes(8192))
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                begin_cursor(str(path), str(spool))
        assert not path.exists()


def test_an_id_is_the_same_each_time_an_event_is_read(writer: Writer, cursor: Open) -> None:
    writer.append(whole(b"x", 7))

    assert cursor().read(1, MUCH)[0].id == cursor().read(1, MUCH)[0].id == EventId(TOKEN, 7)


def test_a_cursor_file_is_plain_json(writer: Writer, cursor: Open, spool: Path) -> None:
    writer.append(whole(b"x", 0))
    reading = cursor()
    deliver(reading)

    saved = json.loads((spool / "cursor.json").read_text())
    assert saved["counts"] == {"delivered": 1}
    assert (saved["segment"], saved["offset"]) == writer.position
