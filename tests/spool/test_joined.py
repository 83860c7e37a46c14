"""What clients have joined, from process to process."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.backends.jkool import JKool
from shipper.backends.trakerr import Trakerr
from shipper.config.settings import Settings
from shipper.spool.joined import ask, asked, close, open_joins, tell, told
from shipper.spool.layout import Spool

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
    close(opened)


def test_what_was_asked_for_is_there_until_it_is_looked_at(place: Spool, joins: int) -> None:
    ask(place.joins, [Trakerr("k1"), JKool("t")])
    ask(place.joins, [Trakerr("k2")])

    assert list(asked(joins)) == [Trakerr("k1"), JKool("t"), Trakerr("k2")]
    assert list(asked(joins)) == []


def test_keys_that_were_asked_for_are_in_no_file(place: Spool, joins: int) -> None:
    ask(place.joins, [Trakerr("the-secret-key")])

    assert not any(b"the-secret-key" in data for data in contents(Path(place.path)))
    assert stat.S_IMODE(os.stat(place.joins).st_mode) == 0o600


def test_what_no_client_wrote_is_passed_over(place: Spool, joins: int) -> None:
    os.write(joins, b"\x03\x00\x00\x00abc")
    ask(place.joins, [Trakerr("k")])
    os.write(joins, b"xy")

    assert list(asked(joins)) == [Trakerr("k")]


def test_more_than_finds_room_is_left_out_and_asked_for_again_later(place: Spool, joins: int) -> None:
    many = [Trakerr(f"k{number}") for number in range(1000)]

    ask(place.joins, [*many, Trakerr("k" * 5000)])

    found = list(asked(joins))
    assert 0 < len(found) < len(many)
    assert found == many[: len(found)]


def test_without_a_fifo_nothing_is_asked_and_nothing_raises(place: Spool) -> None:
    os.unlink(place.joins)
    Path(place.joins).write_text("no FIFO")

    ask(place.joins, [Trakerr("k")])

    assert open_joins(place.joins) == -1
    assert list(asked(-1)) == []
    assert Path(place.joins).read_text() == "no FIFO"


def test_a_successor_is_told_what_was_joined() -> None:
    settings = Settings(backends=(Trakerr("own"),), app="a", spool="/nowhere").with_joined([JKool("t")])
    file = tell(settings)

    found = told({"pid": os.getpid(), "settings": file})

    os.close(file)
    assert found == settings
    assert found.joined == ("jkool",)


@pytest.mark.parametrize("note", [{}, {"pid": 0, "settings": 3}, {"pid": 2**22 + 1, "settings": 3}, {"pid": "x"}])
def test_nobody_tells_nothing(note: dict[str, object]) -> None:
    assert told(note) is None


def test_only_what_clients_joined_is_taken_over() -> None:
    mine = Settings(backends=(Trakerr("mine"),), app="a", spool="/nowhere")
    theirs = Settings(backends=(JKool("theirs"),), app="a", spool="/nowhere").with_joined([Trakerr("k", name="other")])

    both = mine.joined_too(theirs)

    assert [each.name for each in both.backends] == ["trakerr", "other"]
    assert both.joined == ("other",)
    assert both.own_digest == mine.own_digest != theirs.own_digest
    assert both.joined_too(theirs) is both
