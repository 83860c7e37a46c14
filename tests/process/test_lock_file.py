"""The lock file of a running shipper process, in a spool from which a cleaner removes files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shipper.process.system.lock_file import LockFile
from shipper.spool.layout import Spool
from shipper.spool.lock import LockInfo

from ..support.forks import in_a_child


@pytest.fixture
def place(tmp_path: Path) -> Spool:
    place = Spool(str(tmp_path / "spool"))
    place.prepare()
    return place


def run_process(place: Spool, noted: str) -> None:
    """Run a process that takes over a lock file in which the application has noted the spool's id ``noted``."""

    def work() -> None:
        lock = os.open(place.lock, os.O_RDWR | os.O_CREAT)
        LockInfo(spool_id=noted).write(lock)
        LockFile(lock, place)

    assert in_a_child(work) == 0


def test_an_id_that_was_removed_since_the_start_of_the_process_is_written_again(place: Spool) -> None:
    run_process(place, "0123456789abcdef")

    assert place.read_id() == "0123456789abcdef"


def test_an_id_that_is_there_stays(place: Spool) -> None:
    place.write_id("fedcba9876543210")

    run_process(place, "0123456789abcdef")

    assert place.read_id() == "fedcba9876543210"
