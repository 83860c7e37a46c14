"""The jKool client against a real server, with a real shipper process between them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shipper
import shipper.application.joining
from shipper.jkool import streaming
from shipper.spool.layout import Spool
from shipper.spool.lock import running

from .servers import Answer, Reply, Request, Server
from .waiting import PATIENCE, wait_until

OK = Reply()
FQN = "APPL=PythonStreaming#SERVER=PythonServer100#NETADDR=11.0.0.2#DATACENTER=DC1#GEOADDR=52.52437,13.41053"


def is_event(request: Request) -> bool:
    """Whether the request carries an event, and is no access-request."""
    return request.headers["content-type"] == "application/json"


class Service(Server):
    """A server that gets, through a real shipper process, what handlers without a url of their own send."""

    def __enter__(self) -> Service:
        super().__enter__()
        return self

    def arrived(self) -> list[dict[str, Any]]:
        """The events that have arrived by now."""
        return [json.loads(request.body) for request in list(self.requests) if is_event(request)]

    def delivered(self) -> list[dict[str, Any]]:
        """Everything that was logged so far, as it arrived."""
        assert shipper.flush(PATIENCE), "not everything was delivered in time"
        return self.arrived()

    def only(self) -> dict[str, Any]:
        """The one event that was logged."""
        (event,) = self.delivered()
        return event

    def wait_for_events(self, count: int) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.arrived()) >= count, 20.0, f"{count} events, got {len(self.arrived())}")
        return self.arrived()


@contextlib.contextmanager
def running_service(
    spool: Path, answers: Answer | Iterable[Reply] = (), *, default: Reply = OK, port: int = 0
) -> Iterator[Service]:
    """Run a service that handlers find by the environment; afterwards detach all handlers and stop the application."""
    with Service(answers, default=default, port=port) as server, an_application(spool, server.url):
        yield server


@contextlib.contextmanager
def an_application(spool: Path, url: str) -> Iterator[None]:
    """Have handlers ship to ``url``; afterwards detach all, stop, and wait for the end of the shipper process."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHIPPER_SPOOL", str(spool))
        environment.setenv("SHIPPER_GRACE", "1")
        environment.setenv("SHIPPER_JKOOL_URL", url)
        try:
            yield
        finally:
            _detach_all()
            shipper.stop(0)
            shipper.application.joining.forget_joined()
            # The spool must not be removed before the shipper process has ended.
            wait_until(lambda: running(Spool(str(spool))) is None, 10.0, "the shipper process ends")


def _detach_all() -> None:
    known = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in [logging.getLogger(), *known]:
        for handler in list(logger.handlers):
            if isinstance(handler, (streaming.jKoolHandler, shipper.QueueHandler)):
                logger.removeHandler(handler)
