"""Levels that `shipper level` sets: how long they hold, for which targets, and which level is restored."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.application.capture.handler import QueueHandler
from shipper.application.levels import Levels
from shipper.spool.controls import change_controls
from shipper.spool.layout import Spool

from ..support.journals import Clock

LOGGER = logging.getLogger("tests.levels")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(spool: Path) -> Iterator[Spool]:
    found = Spool(str(spool))
    found.prepare()
    LOGGER.setLevel(logging.WARNING)
    yield found
    LOGGER.setLevel(logging.NOTSET)


def ask(spool: Spool, clock: Clock, seconds: float, **levels: int) -> None:
    """Write levels that end ``seconds`` after the fake clock's time; "_" in a logger's name stands for "."."""
    given = {name.replace("_", "."): (level, clock() + seconds) for name, level in levels.items()}

    change_controls(spool, lambda each: dataclasses.replace(each, levels={**each.levels, **given}))


@pytest.fixture(autouse=True)
def in_the_future(clock: Clock) -> None:
    clock.now = 4e9  # later than the real time: `change_controls` drops levels that have run out by that


def test_a_level_holds_for_its_time_and_goes_back(made: Spool, clock: Clock) -> None:
    levels = Levels(made, wall_clock=clock)
    ask(made, clock, 600, tests_levels=logging.DEBUG)

    levels.look()
    assert LOGGER.isEnabledFor(logging.DEBUG)
    clock.now += 599
    levels.look()
    assert LOGGER.level == logging.DEBUG
    clock.now += 1
    levels.look()
    assert LOGGER.level == logging.WARNING
    assert not LOGGER.isEnabledFor(logging.DEBUG)


def test_a_process_that_starts_later_takes_part(made: Spool, clock: Clock) -> None:
    ask(made, clock, 600, tests_levels=logging.DEBUG)
    clock.now += 300

    levels = Levels(made, wall_clock=clock)
    levels.look()

    assert LOGGER.level == logging.DEBUG
    levels.end()
    assert LOGGER.level == logging.WARNING


def test_a_level_that_is_set_twice_goes_back_to_the_first_one(made: Spool, clock: Clock) -> None:
    levels = Levels(made, wall_clock=clock)
    for level in (logging.DEBUG, logging.INFO):
        ask(made, clock, 600, tests_levels=level)
        levels.look()
        assert LOGGER.level == level

    levels.end()

    assert LOGGER.level == logging.WARNING


def test_what_the_application_sets_meanwhile_is_what_it_goes_back_to(made: Spool, clock: Clock) -> None:
    levels = Levels(made, wall_clock=clock)
    ask(made, clock, 600, tests_levels=logging.DEBUG)
    levels.look()

    LOGGER.setLevel(logging.ERROR)  # as dictConfig does
    levels.look()
    assert LOGGER.level == logging.DEBUG
    clock.now += 600
    levels.look()

    assert LOGGER.level == logging.ERROR


def test_an_app_that_has_ended_sets_nothing_any_more(made: Spool, clock: Clock) -> None:
    levels = Levels(made, wall_clock=clock)
    levels.end()
    ask(made, clock, 600, tests_levels=logging.DEBUG)

    levels.look()

    assert LOGGER.level == logging.WARNING


def test_the_handlers_level_is_set_but_not_that_of_access_logs(made: Spool, clock: Clock) -> None:
    ours, access, foreign = QueueHandler(level="WARNING"), QueueHandler(level="WARNING"), logging.NullHandler("WARNING")
    places = ((LOGGER, ours), (logging.getLogger("uvicorn.access"), access), (LOGGER, foreign))
    for logger, handler in places:
        logger.addHandler(handler)
    levels = Levels(made, wall_clock=clock)
    change_controls(made, lambda each: dataclasses.replace(each, levels={"": (logging.DEBUG, clock() + 600)}))
    try:
        levels.look()
        assert [ours.level, access.level, foreign.level] == [logging.DEBUG, logging.WARNING, logging.WARNING]
        levels.end()
        assert ours.level == logging.WARNING
    finally:
        for logger, handler in places:
            logger.removeHandler(handler)
