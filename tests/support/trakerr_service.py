"""The Trakerr client against a real server, with a real shipper process between them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import shipper
import shipper.application.joining
from shipper.spool.layout import Spool
from shipper.spool.lock import running
from shipper.trakerr import TrakerrClient, TrakerrHandler

from .servers import Reply, Server
from .waiting import PATIENCE, scaled, wait_until

OK = Reply()


class Service(Server):
    """A server that gets, through a real shipper process, what clients without a url of their own send."""

    def __enter__(self) -> Service:
        super().__enter__()
        return self

    @property
    def address(self) -> str:
        return f"{self.url}/api/v1"

    def arrived(self) -> list[dict[str, Any]]:
        """The events that have arrived by now."""
        return [json.loads(body) for body in self.bodies]

    def delivered(self) -> list[dict[str, Any]]:
        """Everything that was sent so far, as it arrived."""
        assert TrakerrClient.shutdown(PATIENCE), "not everything was delivered in time"
        return self.arrived()

    def only(self) -> dict[str, Any]:
        """The one event that was sent."""
        (event,) = self.delivered()
        return event


@contextlib.contextmanager
def running_service(spool: Path, answers: Iterable[Reply] = (), *, default: Reply = OK) -> Iterator[Service]:
    """Run a service that clients find by the environment; afterwards detach all handlers and stop the application."""
    with Service(answers, default=default) as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHIPPER_SPOOL", str(spool))
        environment.setenv("SHIPPER_GRACE", "1")
        environment.setenv("SHIPPER_TRAKERR_URL", server.address)
        try:
            yield server
        finally:
            _detach_all()
            shipper.stop(1.0)
            shipper.application.joining.forget_joined()
            # The spool must not be removed before the shipper process has ended.
            wait_until(lambda: running(Spool(str(spool))) is None, 10.0, "the shipper process ends")


def _detach_all() -> None:
    known = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in [logging.getLogger(), *known]:
        for handler in list(logger.handlers):
            if isinstance(handler, (TrakerrHandler, shipper.QueueHandler)):
                logger.removeHandler(handler)


def script(folder: Path, text: str, *, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, from a file in ``folder``, to its end; it inherits the environment."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(file)],
        cwd=folder,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(timeout),
        check=False,
    )
