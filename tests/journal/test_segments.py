"""The segment files."""
from __future__ import annotations

from pathlib import Path

from shipper.journal.segments import release, segments, size_on_disk
from shipper.journal.writer import Writer

from ..support.journals import whole


def test_segments_before_a_number_are_deleted_but_never_the_last(writer: Writer, spool: Path) -> None:
    for seq in range(40):
        writer.append(whole(b"x" * 100, seq))
        writer.rotate_if_due()
    last = segments(str(spool))[-1]

    assert release(str(spool), 3) == 2
    assert segments(str(spool)) == list(range(3, last + 1))
    release(str(spool), last + 10)
    assert segments(str(spool)) == [last]
    assert size_on_disk(str(spool)) < 1200
