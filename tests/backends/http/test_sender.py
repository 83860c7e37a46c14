"""Requests, and what responses and failures mean for their events; against real servers."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shipper.backends.http.sender import Sender
from shipper.backends.protocol import Backend
from shipper.errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from shipper.event.model import Event

from ...support.http_backends import CONTEXT, Described, free_port, sending, sent
from ...support.servers import Reply, Request, Server
from ...support.waiting import PATIENCE


def test_a_sender_is_a_backend() -> None:
    """Name, level and limits are those of the described backend."""
    sender = Sender(Described("http://127.0.0.1:1/", name="x", level=30, max_events=7, max_in_flight=3))

    assert isinstance(sender, Backend)
    assert (sender.name, sender.level, sender.max_events, sender.max_in_flight) == ("x", 30, 7, 3)


def test_a_request_has_the_backends_headers_and_body_and_nothing_else() -> None:
    """No cookies, no Connection, no library's name."""
    with Server() as server, sending(Described(f"{server.url}/a/b?c=d")) as sender:
        assert sent(sender, "hello") is None

        (request,) = server.requests
        assert request.line == "POST /a/b?c=d HTTP/1.1"
        assert request.body == b"hello"
        assert request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "content-type": "text/x",
            "content-length": "5",
            "x-count": "1",
        }


def test_header_values_travel_as_utf8() -> None:
    with (
        Server() as server,
        sending(Described(server.url, own_headers={"X-Host": "Zürich €"})) as sender,
    ):
        assert sent(sender) is None

        assert server.requests[0].headers["x-host"] == "Zürich €"


@pytest.mark.parametrize("name", ["X-A", "x-a", "Host", "Accept-Encoding"])
def test_a_header_of_one_request_replaces_the_shared_one(name: str) -> None:
    backend = Described("", own_headers={"X-A": "all"}, more_headers={name: "one"})
    with Server() as server, sending(replace(backend, endpoint=server.url)) as sender:
        assert sent(sender) is None

        assert server.requests[0].headers[name.lower()] == "one"
        assert server.requests[0].head.lower().count(f"\r\n{name}:".lower().encode()) == 1


class EncodedTogether(str):
    """A header's value that two threads encode at the same moment."""

    both = threading.Barrier(2)

    def encode(self, *args: str, **options: str) -> bytes:
        self.both.wait(PATIENCE)
        return super().encode(*args, **options)


def test_concurrent_requests_have_their_own_headers() -> None:
    backend = Described("", own_headers={"X-A": "all"}, more_headers={"X-A": EncodedTogether("one")})
    with Server() as server, sending(replace(backend, endpoint=server.url)) as sender, ThreadPoolExecutor(2) as threads:
        assert [*threads.map(sent, [sender, sender])] == [None, None]

        assert [request.headers["x-a"] for request in server.requests] == ["one", "one"]


@pytest.mark.parametrize("header", [("X-A", "a\r\nX-B: b"), ("X-A", "a\nb"), ("X-A: a\r\nX-B", "b")])
@pytest.mark.parametrize(("place", "kind"), [("more_headers", RejectedError), ("own_headers", UnauthorisedError)])
def test_a_header_with_a_line_break_is_never_sent(header: tuple[str, str], place: str, kind: type[object]) -> None:
    """In the headers of one request, its events are to blame; in those of all requests, the backend's settings are."""
    with Server() as server:
        backend = replace(Described(server.url), **{place: dict([header])})  # type: ignore[arg-type]
        with sending(backend) as sender:
            assert type(sent(sender)) is kind

        assert server.requests == []


def test_a_user_and_password_in_the_address_become_basic_authorization() -> None:
    with Server() as server, sending(Described(f"http://me:secret@127.0.0.1:{server.port}/")) as sender:
        assert sent(sender) is None

        assert server.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
        assert b"secret" not in server.requests[0].head


def test_the_response_counts_for_all_events_of_a_request() -> None:
    with Server([Reply(200), Reply(400)]) as server, sending(Described(server.url)) as sender:
        events = [Event(message="a"), Event(message="b"), Event(message="c")]

        assert list(sender.send(events)) == [None, None, None]
        refused = sender.send(events)

        assert [type(answer) for answer in refused] == [RejectedError] * 3
        assert server.bodies == [b"a\nb\nc"] * 2


def test_without_events_no_request_is_sent() -> None:
    with Server() as server, sending(Described(server.url)) as sender:
        assert list(sender.send([])) == []

        assert server.requests == []


def test_requests_share_a_keep_alive_connection() -> None:
    with Server() as server, sending(Described(server.url)) as sender:
        for _ in range(5):
            assert sent(sender) is None

        assert [len(requests) for requests in server.connections] == [5]


def test_concurrent_requests_have_a_connection_each() -> None:
    barrier = threading.Barrier(4)

    def together(request: Request) -> Reply | None:
        return None

    with (
        Server(together) as server,
        sending(Described(server.url)) as sender,
        ThreadPoolExecutor(4) as threads,
    ):

        def several(number: int) -> list[DeliveryError | None]:
            barrier.wait(PATIENCE)
            return [sent(sender, f"{number}-{turn}") for turn in range(25)]

        answers = [answer for each in threads.map(several, range(4)) for answer in each]

        assert answers == [None] * 100
        assert sorted(server.bodies) == sorted(f"{n}-{t}".encode() for n in range(4) for t in range(25))
        assert len(server.connections) <= 4


STATUSES = {
    None: [200, 201, 202, 204, 206, 226, 299],
    RetryableError: [408, 425, 429, 500, 502, 503, 504, 505, 507, 599, 600, 999],
    UnauthorisedError: [300, 301, 302, 303, 304, 307, 308, 401, 403, 407],
    TooLargeError: [413],
    RejectedError: [400, 402, 404, 405, 406, 409, 410, 411, 412, 414, 415, 418, 422, 431, 451, 499, 501],
}


@pytest.mark.parametrize(
    ("status", "kind"), [(status, kind) for kind, statuses in STATUSES.items() for status in statuses]
)
def test_the_status_decides_the_result(status: int, kind: type[DeliveryError] | None) -> None:
    has_body = status not in (204, 304)
    reply = Reply(status, body=b"because" if has_body else b"", headers={} if has_body else {"Content-Length": "0"})
    with Server([reply]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        if kind is None:
            assert answer is None
            return
        assert type(answer) is kind
        assert answer.status == status
        assert answer.body == ("because" if has_body else "")
        assert str(status) in answer.reason
        assert sent(sender) is None, "the connection, or a new one, is usable"


def test_the_backends_own_rules_come_before_the_status() -> None:
    with Server([Reply(200, body=b"no"), Reply(500, body=b"no")]) as server, sending(Described(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert isinstance(first, UnauthorisedError)
        assert isinstance(second, UnauthorisedError)
        assert first.reason == "the body says no"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_names_the_url_to_set(status: int) -> None:
    """The other host gets neither event nor credentials."""
    with Server() as other:
        moved = Reply(status, headers={"Location": f"{other.url}/new"})
        with Server([moved]) as server, sending(Described(server.url)) as sender:
            answer = sent(sender)

            assert isinstance(answer, UnauthorisedError)
            assert f"{other.url}/new" in answer.reason
        assert other.requests == []


def test_a_refused_connection_is_retryable_and_names_the_origin() -> None:
    port = free_port()
    with sending(Described(f"http://me:secret@127.0.0.1:{port}/path")) as sender:
        answer = sent(sender)

    assert type(answer) is RetryableError
    assert f"http://127.0.0.1:{port}" in answer.reason
    assert "refused" in answer.reason
    assert "secret" not in answer.reason


def test_an_unknown_host_is_retryable() -> None:
    with sending(Described("http://no-such-host.invalid/")) as sender:
        answer = sent(sender)

    assert type(answer) is RetryableError


@pytest.mark.parametrize(
    "url", ["http://" + "a" * 70 + ".example/", "http://.example/", "http://exa mple/", "http://[::1/", "ftp://x/"]
)
def test_an_invalid_url_loses_nothing(url: str) -> None:
    """A URL that can't be parsed or encoded is a retryable error: the events wait until a person corrects it."""
    with sending(Described(url)) as sender:
        answer = sent(sender)

    assert isinstance(answer, RetryableError)


def test_the_error_of_an_invalid_url_hides_its_password() -> None:
    with sending(Described("http://me:secret@[::1/")) as sender:
        answer = sent(sender)

    assert isinstance(answer, UnauthorisedError)
    assert "secret" not in answer.reason


def test_an_event_that_cannot_be_encoded_is_rejected() -> None:
    """The event would fail for ever, so it must not block the others."""
    with Server() as server, sending(Described(server.url)) as sender:
        (answer,) = sender.send([Event(message="\ud800")])

        assert isinstance(answer, RejectedError)
        assert "UnicodeEncodeError" in answer.reason
        assert server.requests == []


def test_before_open_and_after_close_events_are_retryable() -> None:
    with Server() as server:
        sender = Sender(Described(server.url))
        before = sent(sender)
        sender.open(CONTEXT)
        assert sent(sender) is None
        sender.close()
        sender.close()
        after = sent(sender)

    assert isinstance(before, RetryableError)
    assert isinstance(after, RetryableError)


def test_backends_can_be_described_without_importing_requests() -> None:
    """An application's workers only describe them."""
    code = (
        "import sys, shipper.backends.trakerr, shipper.backends.jkool, shipper.backends.registry;"
        "print([name for name in ('requests', 'urllib3', 'tenacity', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)

    assert done.stdout.strip() == "[]"
