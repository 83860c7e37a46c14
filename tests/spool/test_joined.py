"""Joined backends: requests through the FIFO, and settings handed on to the next process."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.backends.jkool import JKool
from shipper.backends.trakerr import Trakerr
from shipper.config.settings import Settings
from shipper.spool.joined import close_joins, open_joins, pending_joins, publish_settings, read_settings, request_join
from shipper.spool.layout import Spool
from shipper.spool.lock import LockInfo

from ..support.files import contents


@pytest.fixture
def place(spool: Path) -> Spool:
    made = Spool(str(spool))
    made.prepare()
    return made


@pytest.fixture
def joins(place: Spool) -> Iterator[int]:
    opened = open_joins(place.joins)
    yield opened
    close_joins(opened)


def test_a_request_stays_until_it_is_read(place: Spool, joins: int) -> None:
    request_join(place.joins, [Trakerr("k1"), JKool("t")])
    request_join(place.joins, [Trakerr("k2")])

    assert list(pending_joins(joins)) == [Trakerr("k1"), JKool("t"), Trakerr("k2")]
    assert list(pending_joins(joins)) == []


def test_keys_of_requested_backends_are_in_no_file(place: Spool, joins: int) -> None:
    request_join(place.joins, [Trakerr("the-secret-key")])

    assert not any(b"the-secret-key" in data for data in contents(Path(place.path)))
    assert stat.S_IMODE(os.stat(place.joins).st_mode) == 0o600


def test_damaged_requests_are_skipped(place: Spool, joins: int) -> None:
    os.write(joins, b"\x03\x00\x00\x00abc")
    request_join(place.joins, [Trakerr("k")])
    os.write(joins, b"xy")

    assert list(pending_joins(joins)) == [Trakerr("k")]


def test_requests_that_do_not_fit_are_dropped(place: Spool, joins: int) -> None:
    many = [Trakerr(f"k{number}") for number in range(1000)]

    request_join(place.joins, [*many, Trakerr("k" * 5000)])

    found = list(pending_joins(joins))
    assert 0 < len(found) < len(many)
    assert found == many[: len(found)]


def test_without_a_fifo_a_request_is_dropped_and_nothing_raises(place: Spool) -> None:
    os.unlink(place.joins)
    Path(place.joins).write_text("no FIFO")

    request_join(place.joins, [Trakerr("k")])

    assert open_joins(place.joins) == -1
    assert list(pending_joins(-1)) == []
    assert Path(place.joins).read_text() == "no FIFO"


def test_a_successor_reads_the_joined_backends() -> None:
    settings = Settings(backends=(Trakerr("own"),), app="a", spool="/nowhere").with_joined([JKool("t")])
    file = publish_settings(settings)

    found = read_settings(LockInfo(pid=os.getpid(), settings=file))

    os.close(file)
    assert found == settings
    assert found.joined == ("jkool",)


@pytest.mark.parametrize("holder", [LockInfo(), LockInfo(settings=3), LockInfo(pid=2**22 + 1, settings=3)])
def test_without_a_process_there_are_no_settings_to_read(holder: LockInfo) -> None:
    assert read_settings(holder) is None


def test_only_joined_backends_are_merged() -> None:
    mine = Settings(backends=(Trakerr("mine"),), app="a", spool="/nowhere")
    theirs = Settings(backends=(JKool("theirs"),), app="a", spool="/nowhere").with_joined([Trakerr("k", name="other")])

    both = mine.merge_joined(theirs)

    assert [each.name for each in both.backends] == ["trakerr", "other"]
    assert both.joined == ("other",)
    assert both.base_digest == mine.base_digest != theirs.base_digest
    assert both.merge_joined(theirs) is both
