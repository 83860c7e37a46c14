"""pytest: fixtures for the tests of an application that ships. Found by pytest as soon as shipper is installed.

``shipper_events``: everything that the test logs, as it would have been shipped, masked and packed; synchronous, in
this process, and nothing is started or sent. `shipper.start` and the clients may be called as usual.

``shipper_receiver``: a running `shipper.receiver.Receiver`, for tests that send HTTP requests; needs the extra
``receiver``. ``pytest --shipper-receiver http://localhost:8787`` uses a receiver that runs already, for example in a
container, and clears it before each test that uses the fixture.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ..application.diversion import divert, end_diversion
from ..backends.exporter import described
from ..backends.protocol import AppContext
from ..event.codec import unpack
from ..event.model import Event, EventId

if TYPE_CHECKING:
    from ..receiver import Receiver, RemoteReceiver


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "the page of a running shipper receiver, which the fixture shipper_receiver uses instead of its own"
    parser.getgroup("shipper").addoption("--shipper-receiver", metavar="URL", help=text)


class ShippedEvents:
    """What was shipped so far, in order."""

    def __init__(self) -> None:
        self._payloads: list[tuple[EventId, bytes]] = []
        self._diversion = divert(lambda id, payload: self._payloads.append((id, payload)))
        self._diversion.attach(logging.getLogger())

    @property
    def events(self) -> list[Event]:
        """All events so far, as `shipper.Event` objects."""
        return [unpack(payload, id) for id, payload in list(self._payloads)]

    @property
    def messages(self) -> list[str]:
        return [event.message for event in self.events]

    @property
    def dropped(self) -> dict[str, dict[str, int]]:
        """Reason → level → number of dropped events: ``before_send`` returned None, or masking failed."""
        return self._diversion.queue.drops

    def bodies(self, backend: Any) -> list[Any]:
        """Return the body of each event that a backend (``shipper.Trakerr("key")``) takes, parsed as JSON.

        A body that is not JSON is returned as bytes.
        """
        description = described(backend)
        context = AppContext("test", "/", "localhost", "127.0.0.1", lambda time: None)
        taken = [event for event in self.events if event.level >= backend.level and _is_for(event, backend.name)]
        bodies = [description.body([event], context) for event in taken]
        return [_parsed(body) for body in bodies]

    def clear(self) -> None:
        self._payloads.clear()

    def __len__(self) -> int:
        return len(self._payloads)


def _is_for(event: Event, name: str) -> bool:
    return event.route is None or name in event.route


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


@pytest.fixture
def shipper_events() -> Iterator[ShippedEvents]:
    """Everything that the test logs, as it would have been shipped."""
    shipped = ShippedEvents()
    yield shipped
    end_diversion()


@pytest.fixture
def shipper_receiver(pytestconfig: pytest.Config) -> Iterator[Receiver | RemoteReceiver]:
    """A local stand-in for the services, on a free port; ``.trakerr_url``, ``.jkool_url`` and ``.otlp_url``."""
    from ..receiver import Receiver, RemoteReceiver

    page = pytestconfig.getoption("--shipper-receiver")
    if page is None:
        with Receiver() as receiver:
            yield receiver
        return
    remote = RemoteReceiver(page)
    remote.recover()
    remote.clear()
    yield remote
    remote.recover()
