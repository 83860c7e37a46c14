"""The shipper process's own log."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from shipper.process.system import log


@pytest.fixture
def set_up(tmp_path: Path) -> Iterator[Callable[[], tuple[logging.Logger, io.StringIO]]]:
    """Set up the logger as a process does; return it and what it writes to stderr. Restored after the test."""
    raising = logging.raiseExceptions
    logger = logging.getLogger(log.NAME)
    before = (logger.level, logger.propagate)

    def make() -> tuple[logging.Logger, io.StringIO]:
        stderr = io.StringIO()
        with redirect_stderr(stderr):
            return log.set_up(str(tmp_path / "shipper.log"), "shop"), stderr

    yield make

    logging.raiseExceptions = raising
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    for each in list(logger.filters):
        logger.removeFilter(each)
    logger.level, logger.propagate = before
    assert sys.stderr is not None


SetUp = Callable[[], "tuple[logging.Logger, io.StringIO]"]


def test_everything_is_in_the_file_and_warnings_are_on_stderr_too(set_up: SetUp, tmp_path: Path) -> None:
    logger, stderr = set_up()

    logger.info("started")
    logger.warning("trouble")

    assert "started" not in stderr.getvalue()
    assert "shipper[shop] WARNING trouble" in stderr.getvalue()
    assert "shipper[shop] INFO started" in (tmp_path / "shipper.log").read_text()


def test_it_never_reaches_the_root_logger(set_up: SetUp, caplog: pytest.LogCaptureFixture) -> None:
    logger, _ = set_up()

    logger.error("not to be shipped")

    assert not logger.propagate
    assert caplog.records == []


def test_the_same_warning_is_said_once_whatever_its_numbers(set_up: SetUp) -> None:
    logger, stderr = set_up()

    for seconds in range(100):
        logger.warning("%s: %s; trying again in %.1f s", "trakerr", "HTTP 503", seconds)

    assert stderr.getvalue().count("\n") == 1


def test_different_warnings_of_one_backend_are_all_said(set_up: SetUp) -> None:
    logger, stderr = set_up()

    for what in ("an event became a dead letter: HTTP 400", "spool: No space left on device", "HTTP 401"):
        logger.warning("%s: %s", "trakerr", what)

    assert stderr.getvalue().count("\n") == 3


def test_how_often_a_warning_came_is_said_the_next_time(set_up: SetUp) -> None:
    logger, stderr = set_up()
    (once,) = logger.filters
    assert isinstance(once, log._RepeatFilter)
    for _ in range(4):
        logger.warning("again")

    once._seen = {key: (said - log.REPEAT_SECONDS - 1, times) for key, (said, times) in once._seen.items()}
    logger.warning("again")

    assert "again (repeated 3 times before)" in stderr.getvalue()


def test_a_log_that_can_not_be_written_is_no_reason_to_stop(set_up: SetUp, tmp_path: Path) -> None:
    os.mkdir(tmp_path / "shipper.log")
    logger, stderr = set_up()

    logger.warning("trouble")

    assert "trouble" in stderr.getvalue()
