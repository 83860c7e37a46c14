"""Names of the previous release work, and a DeprecationWarning says which name to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

import shipper
from shipper.backends.deprecated import is_http_backend
from shipper.backends.http.sender import Sender
from shipper.backends.protocol import AppContext, HttpResponse
from shipper.config.environment import resolve
from shipper.errors import DeliveryError, UnauthorisedError
from shipper.event.model import Event

from ..support.servers import Reply, Server

CONTEXT = AppContext("app", "/", "host", "127.0.0.1", lambda time: None)


class OldNames:
    """An HttpBackend as the previous release documented it."""

    name = "old"
    level = 0
    max_events = 1
    max_in_flight = 1
    timeout = (5.0, 5.0)

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def headers(self, site: AppContext) -> Mapping[str, str]:
        return {}

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {}

    def body(self, events: Sequence[Event], site: AppContext) -> bytes:
        return events[0].message.encode()

    def greeting(self) -> tuple[Mapping[str, str], bytes] | None:
        return {}, b"hello"

    def verdict(self, answer: HttpResponse) -> DeliveryError | None:
        return UnauthorisedError("refused by the body") if answer.body == "no" else None


class OldJKool(shipper.JKool):
    """Derived from a backend of this package; extends a method under its old name."""

    def verdict(self, answer: HttpResponse) -> DeliveryError | None:
        return UnauthorisedError("busy") if answer.body == "busy" else super().verdict(answer)


def send(backend: object, *replies: Reply) -> tuple[DeliveryError | None, list[bytes]]:
    """The result for one event, and the bodies that a server got."""
    with Server(replies) as server:
        backend.endpoint = server.url  # type: ignore[attr-defined]
        sender = Sender(backend)  # type: ignore[arg-type]
        sender.open(CONTEXT)
        (result,) = sender.send([Event(message="event")])
        sender.close()
        return result, server.bodies


def test_a_backend_with_the_old_method_names_is_sent_to() -> None:
    assert is_http_backend(OldNames(""))

    assert send(OldNames("")) == (None, [b"hello", b"event"])


def test_the_old_rule_for_responses_is_obeyed() -> None:
    result, _ = send(OldNames(""), Reply(200), Reply(200, body=b"no"))

    assert isinstance(result, UnauthorisedError)


def test_a_derived_class_may_refine_the_old_method() -> None:
    with Server([Reply(200, body=b"busy")]) as server:
        sender = Sender(OldJKool("token", server.url, handshake=False))
        sender.open(CONTEXT)
        results = [*sender.send([Event(message="one")]), *sender.send([Event(message="two")])]
        sender.close()

    assert [type(result) for result in results] == [UnauthorisedError, type(None)]


def test_the_old_method_names_are_warned_of() -> None:
    with (
        pytest.warns(DeprecationWarning, match=r"OldNames\.greeting.*handshake_request"),
        pytest.warns(DeprecationWarning, match=r"OldNames\.verdict.*classify_response"),
    ):
        resolve((OldNames("http://127.0.0.1:1"),), {"app": "test"}, {})


def test_current_backends_are_not_warned_of() -> None:
    """Warnings are errors in this test run."""
    assert resolve((shipper.JKool("token"),), {"app": "test"}, {}).backends


def test_site_is_the_old_name_of_app_context() -> None:
    with pytest.warns(DeprecationWarning, match=r"shipper\.AppContext"):
        assert shipper.Site is shipper.AppContext
