"""A journal in a folder of its own: a writer with small segments, cursors, a clock."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.cursors.cursor import Cursor
from shipper.journal.writer import Writer

from ..support.disks import tmpfs
from ..support.journals import Clock, Open


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(spool: Path) -> Iterator[Writer]:
    made = Writer(str(spool), segment_bytes=1000)
    yield made
    made.close()


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


@pytest.fixture
def small_disk(spool: Path) -> Iterator[Path]:
    """A file system with room for a quarter of a megabyte."""
    folder = spool / "disk"
    folder.mkdir(0o700)
    with tmpfs(folder, "256k"):
        yield folder
