"""The spool's lock, and the app that a spool belongs to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.errors import ConfigurationError
from shipper.spool.files import open_file
from shipper.spool.layout import Spool
from shipper.spool.lock import LockInfo, claim, read_pid, running


@pytest.fixture
def place(spool: Path) -> Spool:
    made = Spool(str(spool))
    made.prepare()
    return made


@pytest.fixture
def lock(place: Spool) -> Iterator[int]:
    """The lock file, locked as by a shipper process."""
    opened = open_file(place.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(opened, fcntl.LOCK_EX)
    yield opened
    os.close(opened)


def test_the_process_that_holds_the_lock_is_the_one_that_runs(place: Spool, lock: int) -> None:
    LockInfo(pid=17, digest="x").write(lock)

    assert running(place) == LockInfo(pid=17, digest="x")
    fcntl.flock(lock, fcntl.LOCK_UN)
    assert running(place) is None
    assert read_pid(place) == 17


def test_without_a_lock_file_no_process_runs(place: Spool) -> None:
    assert running(place) is None
    assert read_pid(place) == 0


def test_a_shorter_content_replaces_a_longer_one(lock: int) -> None:
    LockInfo(digest="x" * 64, since=1700000000.123456, quick=12).write(lock)
    LockInfo(pid=1).write(lock)

    assert LockInfo.read(lock) == LockInfo(pid=1)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"pid": "x", "started": [], "quick": null}', '{"pid": NaN}', '{"pid": -1}', "\x00\x01"]
)
def test_damaged_content_is_read_as_defaults(lock: int, text: str) -> None:
    os.pwrite(lock, text.encode(), 0)

    assert LockInfo.read(lock) == LockInfo()


def test_a_spool_belongs_to_the_first_app_that_claims_it(place: Spool) -> None:
    claim(place, "first")
    claim(place, "first")

    with pytest.raises(ConfigurationError, match="belongs to the app 'first'"):
        claim(place, "second")
