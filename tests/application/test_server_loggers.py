"""Records of servers' loggers, which do not propagate, are shipped once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from shipper.application.capture.handler import QueueHandler
from shipper.application.server_loggers import ServerLoggers


@pytest.fixture
def server() -> Iterator[logging.Logger]:
    """A server's logger, as gunicorn leaves it: it exists and does not propagate."""
    logger = logging.getLogger("gunicorn.error")
    before = logger.propagate, logger.handlers[:], logger.disabled
    logger.propagate, logger.handlers[:], logger.disabled = False, [], False
    yield logger
    logger.propagate, logger.handlers[:], logger.disabled = before


@pytest.fixture
def access() -> Iterator[logging.Logger]:
    logger = logging.getLogger("gunicorn.access")
    before = logger.propagate, logger.handlers[:]
    logger.propagate, logger.handlers[:] = False, []
    yield logger
    logger.propagate, logger.handlers[:] = before


def ours(logger: logging.Logger) -> list[QueueHandler]:
    return [handler for handler in logger.handlers if isinstance(handler, QueueHandler)]


def test_a_server_s_logger_gets_one_handler_however_often_it_is_looked_for(server: logging.Logger) -> None:
    loggers = ServerLoggers()

    loggers.attach()
    loggers.attach()

    assert len(ours(server)) == 1
    loggers.detach()
    loggers.detach()
    assert ours(server) == []


def test_a_handler_that_was_removed_is_attached_again(server: logging.Logger) -> None:
    loggers = ServerLoggers()
    loggers.attach()
    (handler,) = ours(server)

    server.handlers.clear()
    loggers.attach()

    assert ours(server) == [handler]
    loggers.detach()


def test_a_logger_that_propagates_to_a_handler_of_ours_needs_no_other(server: logging.Logger) -> None:
    server.propagate = True
    root = QueueHandler()
    logging.getLogger().addHandler(root)
    loggers = ServerLoggers()
    try:
        loggers.attach()

        assert ours(server) == []
    finally:
        logging.getLogger().removeHandler(root)


def test_a_disabled_logger_is_left_alone(server: logging.Logger) -> None:
    server.disabled = True
    loggers = ServerLoggers()

    loggers.attach()

    assert ours(server) == []


def test_of_access_logs_only_trouble_is_shipped_unless_they_are_wanted(access: logging.Logger) -> None:
    for wanted, level in ((False, logging.WARNING), (True, logging.NOTSET)):
        loggers = ServerLoggers(access_logs=wanted)
        loggers.attach()

        assert [handler.level for handler in ours(access)] == [level]
        loggers.detach()


def test_a_logger_that_the_user_names_is_shipped_though_nobody_knows_it(server: logging.Logger) -> None:
    own = logging.getLogger("test.server.of.my.own")
    own.propagate = False
    loggers = ServerLoggers([own], servers=False, level=30)

    loggers.attach()

    assert [handler.level for handler in ours(own)] == [30]
    assert ours(server) == []
    loggers.detach()
    assert ours(own) == []


def test_no_logger_is_made() -> None:
    ServerLoggers().attach()

    assert "dramatiq" not in logging.root.manager.loggerDict
