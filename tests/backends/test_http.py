"""What `Sender` does with requests, answers and connections; against real servers."""

from __future__ import annotations

import datetime
import email.utils
import gzip
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from shipper.backends.http.connection import MAX_BODY_BYTES
from shipper.backends.http.sender import Sender
from shipper.backends.http.status import MAX_RETRY_AFTER, classify_status, retry_after
from shipper.backends.protocol import AppContext, Backend, HttpBackend, HttpResponse
from shipper.errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from shipper.event.model import Event

from ..support.servers import CLOSE, HALF, HANG, RESET, Reply, Request, Server
from ..support.waiting import PATIENCE

CONTEXT = AppContext("app", "/", "host", "127.0.0.1", lambda time: None)
GREETING = b"<hello/>"


@dataclass(frozen=True)
class Plain:
    """The least that is an HttpBackend."""

    endpoint: str
    name: str = "plain"
    level: int = 0
    max_events: int = 100
    max_in_flight: int = 4
    timeout: tuple[float, float] = (5, 5)
    greeted: bool = False
    ca_bundle: str | None = None
    max_idle: float = 45
    max_age: float = 120
    own_headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/x"})
    more_headers: Mapping[str, str] = field(default_factory=dict)  # of each request

    def headers(self, context: AppContext) -> Mapping[str, str]:
        return self.own_headers

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {"X-Count": str(len(events)), **self.more_headers}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        return "\n".join(event.message for event in events).encode()

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        return ({"Content-Type": "text/greeting"}, GREETING) if self.greeted else None

    def classify_response(self, answer: HttpResponse) -> DeliveryError | None:
        return UnauthorisedError("the body says no", status=answer.status) if answer.body == "no" else None


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Opened:
    """A sender that is open as long as its ``with`` lasts."""

    def __init__(self, backend: HttpBackend, clock: Clock | None = None, *, cwd: str = "/") -> None:
        self.sender = Sender(backend, clock=clock or Clock())
        self.context = replace(CONTEXT, cwd=cwd)

    def __enter__(self) -> Sender:
        self.sender.open(self.context)
        return self.sender

    def __exit__(self, *exc_info: object) -> None:
        self.sender.close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def sent(sender: Sender, message: str = "x") -> DeliveryError | None:
    (answer,) = sender.send([Event(message=message)])
    return answer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def test_a_sender_is_a_backend() -> None:
    """What it is made of says name, level and limits."""
    sender = Sender(Plain("http://127.0.0.1:1/", name="x", level=30, max_events=7, max_in_flight=3))

    assert isinstance(sender, Backend)
    assert (sender.name, sender.level, sender.max_events, sender.max_in_flight) == ("x", 30, 7, 3)


def test_a_request_has_the_backends_headers_and_body_and_nothing_that_it_did_not_ask_for() -> None:
    """No cookies, no Connection, no library's name."""
    with Server() as server, Opened(Plain(f"{server.url}/a/b?c=d")) as sender:
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
        Opened(Plain(server.url, own_headers={"X-Host": "Zürich €"})) as sender,
    ):
        assert sent(sender) is None

        assert server.requests[0].headers["x-host"] == "Zürich €"


@pytest.mark.parametrize("name", ["X-A", "x-a", "Host", "Accept-Encoding"])
def test_a_header_of_one_request_takes_the_place_of_one_that_all_share(name: str) -> None:
    backend = Plain("", own_headers={"X-A": "all"}, more_headers={name: "one"})
    with Server() as server, Opened(replace(backend, endpoint=server.url)) as sender:
        assert sent(sender) is None

        assert server.requests[0].headers[name.lower()] == "one"
        assert server.requests[0].head.lower().count(f"\r\n{name}:".lower().encode()) == 1


class Meeting(str):
    """A header's value that two threads spell at the same moment."""

    both = threading.Barrier(2)

    def encode(self, *args: str, **options: str) -> bytes:
        self.both.wait(PATIENCE)
        return super().encode(*args, **options)


def test_threads_spell_their_headers_each_for_itself() -> None:
    backend = Plain("", own_headers={"X-A": "all"}, more_headers={"X-A": Meeting("one")})
    with Server() as server, Opened(replace(backend, endpoint=server.url)) as sender, ThreadPoolExecutor(2) as threads:
        assert [*threads.map(sent, [sender, sender])] == [None, None]

        assert [request.headers["x-a"] for request in server.requests] == ["one", "one"]


@pytest.mark.parametrize("header", [("X-A", "a\r\nX-B: b"), ("X-A", "a\nb"), ("X-A: a\r\nX-B", "b")])
@pytest.mark.parametrize(("place", "kind"), [("more_headers", RejectedError), ("own_headers", UnauthorisedError)])
def test_a_header_that_would_be_two_is_never_sent(header: tuple[str, str], place: str, kind: type[object]) -> None:
    """One of a request is the event's fault; one of all requests is a setting that a person has to mend."""
    with Server() as server:
        backend = replace(Plain(server.url), **{place: dict([header])})  # type: ignore[arg-type]
        with Opened(backend) as sender:
            assert type(sent(sender)) is kind

        assert server.requests == []


def test_a_user_and_password_in_the_address_become_basic_authorization() -> None:
    with Server() as server, Opened(Plain(f"http://me:secret@127.0.0.1:{server.port}/")) as sender:
        assert sent(sender) is None

        assert server.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
        assert b"secret" not in server.requests[0].head


def test_one_answer_counts_for_all_events_of_a_request() -> None:
    with Server([Reply(200), Reply(400)]) as server, Opened(Plain(server.url)) as sender:
        events = [Event(message="a"), Event(message="b"), Event(message="c")]

        assert list(sender.send(events)) == [None, None, None]
        refused = sender.send(events)

        assert [type(answer) for answer in refused] == [RejectedError] * 3
        assert server.bodies == [b"a\nb\nc"] * 2


def test_no_events_are_no_request() -> None:
    with Server() as server, Opened(Plain(server.url)) as sender:
        assert list(sender.send([])) == []

        assert server.requests == []


def test_requests_share_a_keep_alive_connection() -> None:
    with Server() as server, Opened(Plain(server.url)) as sender:
        for _ in range(5):
            assert sent(sender) is None

        assert [len(requests) for requests in server.connections] == [5]


def test_threads_have_a_connection_each_and_leave_no_more_than_the_pool_holds() -> None:
    barrier = threading.Barrier(4)

    def together(request: Request) -> Reply | None:
        return None

    with (
        Server(together) as server,
        Opened(Plain(server.url)) as sender,
        ThreadPoolExecutor(4) as threads,
    ):

        def several(number: int) -> list[DeliveryError | None]:
            barrier.wait(PATIENCE)
            return [sent(sender, f"{number}-{turn}") for turn in range(25)]

        answers = [answer for each in threads.map(several, range(4)) for answer in each]

        assert answers == [None] * 100
        assert sorted(server.bodies) == sorted(f"{n}-{t}".encode() for n in range(4) for t in range(25))
        assert len(server.connections) <= 4


# What a status means.

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
def test_a_status_decides_what_becomes_of_the_event(status: int, kind: type[DeliveryError] | None) -> None:
    has_body = status not in (204, 304)
    reply = Reply(status, body=b"because" if has_body else b"", headers={} if has_body else {"Content-Length": "0"})
    with Server([reply]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        if kind is None:
            assert answer is None
            return
        assert type(answer) is kind
        assert answer.status == status
        assert answer.body == ("because" if has_body else "")
        assert str(status) in answer.reason
        assert sent(sender) is None, "the connection, or a new one, is usable"


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
@pytest.mark.parametrize("times", [1, 3])
def test_what_precedes_an_answer_is_skipped(status: str, times: int) -> None:
    early = f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode() * times
    replies = [Reply(raw=early + f"HTTP/1.1 {each} X\r\nContent-Length: 0\r\n\r\n".encode()) for each in (200, 400)]
    with Server(replies) as server, Opened(Plain(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert first is None
        assert type(second) is RejectedError
        assert len(server.connections) == 1


def test_an_answer_that_only_has_been_announced_is_none() -> None:
    early = Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n", then="close")
    with Server([early, Reply(400)]) as server, Opened(Plain(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert type(first) is RetryableError
        assert type(second) is RejectedError
        assert len(server.connections) == 2


def test_an_upgrade_that_nobody_asked_for_is_no_answer() -> None:
    upgrade = Reply(raw=b"HTTP/1.1 101 Upgraded\r\n\r\n")
    with Server([upgrade, Reply(400)]) as server, Opened(Plain(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert type(first) is RetryableError
        assert type(second) is RejectedError
        assert len(server.connections) == 2


def test_the_backends_own_rules_come_before_the_status() -> None:
    with Server([Reply(200, body=b"no"), Reply(500, body=b"no")]) as server, Opened(Plain(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert isinstance(first, UnauthorisedError)
        assert isinstance(second, UnauthorisedError)
        assert first.reason == "the body says no"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_says_which_address_to_set(status: int) -> None:
    """The other host gets neither event nor credentials."""
    with Server() as other:
        moved = Reply(status, headers={"Location": f"{other.url}/new"})
        with Server([moved]) as server, Opened(Plain(server.url)) as sender:
            answer = sent(sender)

            assert isinstance(answer, UnauthorisedError)
            assert f"{other.url}/new" in answer.reason
        assert other.requests == []


# Retry-After.

NOW = 1_800_000_000.0


def http_date(seconds: float) -> str:
    return email.utils.format_datetime(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc), usegmt=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (str(10**9), 1e9),
        ("9" * 5000, MAX_RETRY_AFTER),
        (http_date(NOW + 90), 90.0),
        (http_date(NOW + 90).replace("GMT", "-0000"), 90.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        (http_date(NOW - 90), None),
        ("-5", None),
        ("+5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Mon, 99 Foo 2020 99:99:99 GMT", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_garbage_is_ignored(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_no_retry_after_is_none() -> None:
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 401])
def test_a_retryable_answer_carries_its_retry_after(status: int) -> None:
    error = classify_status(HttpResponse(status, {"retry-after": "7"}, ""), NOW)

    assert isinstance(error, RetryableError)
    assert error.retry_after == 7.0


# What goes wrong on the way.


@pytest.mark.parametrize(
    "reply",
    [
        RESET,
        CLOSE,
        HALF,
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Le", then="close"),
        Reply(raw=b"HTTP/1.1 200 OK\r\n", then="reset"),
        Reply(raw=b"garbage\r\n\r\n", then="close"),
        Reply(raw=b"HTTP/1.1 abc OK\r\n\r\n", then="close"),
        Reply(raw=b"HTTP/1.1 20 OK\r\n\r\n", then="close"),
        Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n", then="close"),
        Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n", then="close"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", then="close"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", then="close"),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nabc", then="close"),
        Reply(raw=b"\x00\xff" * 1000, then="close"),
    ],
    ids=lambda reply: repr(reply.raw[:40]) if reply.raw else reply.then,
)
def test_an_answer_that_is_none_is_retried(reply: Reply) -> None:
    with Server([reply]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert answer.reason
        assert sent(sender) is None


@pytest.mark.parametrize(
    "reply",
    [HANG, Reply(raw=b"HTTP/1.1 200", then="hang"), Reply(raw=HALF.raw, then="hang")],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_server_that_hangs_costs_no_more_than_the_timeout(reply: Reply) -> None:
    with Server([reply]) as server, Opened(Plain(server.url, timeout=(5, 0.2))) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert "in time" in answer.reason


def test_a_server_that_trickles_its_answer_costs_no_more_than_the_timeout() -> None:
    """The time limit is for the whole answer, not for each byte."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with Opened(Plain(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=(5, 0.3))) as sender:
            answer = sent(sender)
    finally:
        stop.set()
        thread.join()
        listener.close()

    assert type(answer) is RetryableError
    assert "in time" in answer.reason


def test_a_refused_connection_is_retried_and_names_the_place() -> None:
    port = free_port()
    with Opened(Plain(f"http://me:secret@127.0.0.1:{port}/path")) as sender:
        answer = sent(sender)

    assert type(answer) is RetryableError
    assert f"http://127.0.0.1:{port}" in answer.reason
    assert "refused" in answer.reason
    assert "secret" not in answer.reason


def test_a_host_name_that_is_unknown_is_retried() -> None:
    with Opened(Plain("http://no-such-host.invalid/")) as sender:
        answer = sent(sender)

    assert type(answer) is RetryableError


@pytest.mark.parametrize(
    "url", ["http://" + "a" * 70 + ".example/", "http://.example/", "http://exa mple/", "http://[::1/", "ftp://x/"]
)
def test_an_address_that_cannot_be_one_loses_nothing(url: str) -> None:
    """IDNA, parse errors and the like are answers too: a person has to mend the setting."""
    with Opened(Plain(url)) as sender:
        answer = sent(sender)

    assert isinstance(answer, RetryableError)


def test_an_address_that_cannot_be_one_is_told_without_its_password() -> None:
    with Opened(Plain("http://me:secret@[::1/")) as sender:
        answer = sent(sender)

    assert isinstance(answer, UnauthorisedError)
    assert "secret" not in answer.reason


def test_a_large_answer_is_read_up_to_a_bound_and_its_connection_dropped() -> None:
    reply = Reply(400, body=b"y" * (MAX_BODY_BYTES + 5000))
    with Server([reply]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "y" * MAX_BODY_BYTES
        assert sent(sender) is None
        assert len(server.connections) == 2


def test_an_answer_of_exactly_the_bound_keeps_its_connection() -> None:
    with Server([Reply(400, body=b"y" * MAX_BODY_BYTES)]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert len(answer.body) == MAX_BODY_BYTES
        assert sent(sender) is None
        assert len(server.connections) == 1


def test_a_compressed_answer_is_not_unpacked() -> None:
    """Nobody asked for compression, so a small answer can't become a large one."""
    bomb = gzip.compress(b"0" * 10_000_000)
    with Server([Reply(400, {"Content-Encoding": "gzip"}, bomb)]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert len(answer.body) <= len(bomb)


def test_a_chunked_answer_is_read() -> None:
    raw = b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Server([Reply(raw=raw)]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "abcde"
        assert sent(sender) is None
        assert len(server.connections) == 1


def test_an_answer_whose_length_is_given_twice_the_same_is_read() -> None:
    raw = b"HTTP/1.1 400 No\r\nContent-Length: 3, 3\r\n\r\nabc"
    with Server([Reply(raw=raw)]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "abc"


@pytest.mark.parametrize("behind", [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"d"])
def test_a_connection_that_says_more_than_its_answer_is_not_used_again(behind: bytes) -> None:
    """Should the rest of it come later, it would be taken for the answer to the next request."""
    raw = b"HTTP/1.1 200 Yes\r\nContent-Length: 3\r\n\r\nabc" + behind
    with Server([Reply(raw=raw)]) as server, Opened(Plain(server.url)) as sender:
        assert [sent(sender), sent(sender)] == [None, None]
        assert len(server.connections) == 2


def test_an_answer_that_comes_in_pieces_is_read() -> None:
    """The head alone, then the body, then the next answer, on one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(2):
                connection.recv(65536)
                for byte in b"HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\nabc":
                    connection.sendall(bytes([byte]))

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        with Opened(Plain(f"http://127.0.0.1:{listener.getsockname()[1]}")) as sender:
            answers = [sent(sender), sent(sender)]
    finally:
        thread.join()
        listener.close()

    assert [answer.body for answer in answers if isinstance(answer, RejectedError)] == ["abc", "abc"]


def test_an_answer_without_length_ends_with_its_connection() -> None:
    raw = b"HTTP/1.0 400 No\r\n\r\nall of it"
    with Server([Reply(raw=raw, then="close")]) as server, Opened(Plain(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "all of it"


def test_a_connection_that_the_server_closed_while_idle_is_opened_anew() -> None:
    with Server([Reply(then="close"), Reply(then="close")]) as server, Opened(Plain(server.url)) as sender:
        assert [sent(sender) for _ in range(3)] == [None, None, None]

        assert [len(requests) for requests in server.connections] == [1, 1, 1]


def test_a_body_that_cannot_be_made_is_rejected() -> None:
    """The event would fail for ever, so it must not block the others."""
    with Server() as server, Opened(Plain(server.url)) as sender:
        (answer,) = sender.send([Event(message="\ud800")])

        assert isinstance(answer, RejectedError)
        assert "UnicodeEncodeError" in answer.reason
        assert server.requests == []


def test_before_open_and_after_close_nothing_is_lost() -> None:
    with Server() as server:
        sender = Sender(Plain(server.url))
        before = sent(sender)
        sender.open(CONTEXT)
        assert sent(sender) is None
        sender.close()
        sender.close()
        after = sent(sender)

    assert isinstance(before, RetryableError)
    assert isinstance(after, RetryableError)


# The handshake.


def greetings(server: Server) -> list[list[bool]]:
    """For each connection, which of its requests were handshakes."""
    return [[request.body == GREETING for request in requests] for requests in server.connections]


def test_the_handshake_is_the_first_request_of_a_connection() -> None:
    with Server() as server, Opened(Plain(f"{server.url}/p?q", greeted=True)) as sender:
        assert [sent(sender, "e") for _ in range(3)] == [None] * 3

        assert greetings(server) == [[True, False, False, False]]
        first = server.requests[0]
        assert first.line == "POST /p?q HTTP/1.1"
        assert first.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "content-type": "text/greeting",
            "content-length": str(len(GREETING)),
        }


def test_every_connection_begins_with_a_handshake_however_the_last_one_ended() -> None:
    """Closed politely, reset, cut in an answer, closed while idle, dropped by the server."""

    once = {
        b"close": Reply(then="close"),
        b"reset": RESET,
        b"half": HALF,
        b"early": Reply(raw=b"HTTP/1.1 101 Upgraded\r\n\r\n"),
        b"large": Reply(body=b"x" * (MAX_BODY_BYTES + 5000)),
    }

    def answer(request: Request) -> Reply | None:
        return once.pop(request.body, None)

    clock = Clock()
    with Server(answer) as server, Opened(Plain(server.url, greeted=True), clock) as sender:
        for message in ("close", "reset", "half", "early", "large", "idle"):
            sent(sender, message)
        clock.now += 241
        assert sent(sender, "after") is None

        assert len(server.connections) == 7
        assert all(first and not any(others) for first, *others in greetings(server))


def test_parallel_connections_are_each_greeted() -> None:
    with (
        Server() as server,
        Opened(Plain(server.url, greeted=True)) as sender,
        ThreadPoolExecutor(4) as threads,
    ):
        assert list(threads.map(lambda number: sent(sender), range(40))) == [None] * 40

        for requests in greetings(server):
            assert requests[0]
            assert not any(requests[1:])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, body=b"no"), UnauthorisedError),
        (Reply(401), UnauthorisedError),
        (Reply(403), UnauthorisedError),
        (Reply(302), UnauthorisedError),
        (Reply(404), UnauthorisedError),
        (Reply(413), UnauthorisedError),
        (Reply(503), RetryableError),
        (Reply(429), RetryableError),
        (Reply(raw=b"HTTP/1.1 101 Upgraded\r\n\r\n"), RetryableError),
        (HALF, RetryableError),
        (RESET, RetryableError),
    ],
)
def test_a_handshake_that_fails_lets_no_event_out(reply: Reply, kind: type[DeliveryError]) -> None:
    """And it is never the event's fault: nothing may be thrown away for it."""
    with Server([reply]) as server, Opened(Plain(server.url, greeted=True)) as sender:
        answer = sent(sender, "event")

        assert type(answer) is kind
        assert server.bodies == [GREETING]
        assert sent(sender, "event") is None
        assert greetings(server) == [[True], [True, False]]


def test_the_retry_after_of_a_handshake_is_heard() -> None:
    with (
        Server([Reply(503, {"Retry-After": "9"})]) as server,
        Opened(Plain(server.url, greeted=True)) as sender,
    ):
        answer = sent(sender)

        assert isinstance(answer, RetryableError)
        assert answer.retry_after == 9.0


def test_a_handshake_that_hangs_costs_no_more_than_the_timeout() -> None:
    with Server([HANG]) as server, Opened(Plain(server.url, greeted=True, timeout=(5, 0.2))) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert "in time" in answer.reason


# Proxies.


def test_a_proxy_of_the_environment_gets_the_whole_address_and_its_own_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The proxy is read once, when the sender is opened; a handshake goes through it like an event."""
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
        with Opened(Plain("http://service.invalid/p", greeted=True)) as sender:
            monkeypatch.delenv("http_proxy")
            assert sent(sender, "event") is None

        assert [request.target for request in proxy.requests] == ["http://service.invalid/p"] * 2
        assert [request.headers["host"] for request in proxy.requests] == ["service.invalid"] * 2
        assert [request.headers["proxy-authorization"] for request in proxy.requests] == ["Basic bWU6c2VjcmV0"] * 2
        assert proxy.bodies == [GREETING, b"event"]


def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server, Opened(Plain(server.url)) as sender:
        assert sent(sender) is None


def test_a_proxy_that_wants_credentials_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([Reply(407)]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with Opened(Plain("http://service.invalid/")) as sender:
            assert isinstance(sent(sender), UnauthorisedError)


@pytest.mark.parametrize(
    ("status", "kind"), [(407, UnauthorisedError), (403, UnauthorisedError), (502, RetryableError)]
)
def test_a_tunnel_that_a_proxy_refuses_loses_nothing(
    status: int, kind: type[DeliveryError], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)

    thread = threading.Thread(target=refuse)
    thread.start()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        with Opened(Plain("https://service.invalid/")) as sender:
            answer = sent(sender)
    finally:
        thread.join()
        listener.close()

    assert type(answer) is kind


def test_a_proxy_that_is_down_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with Opened(Plain("http://service.invalid/")) as sender:
        answer = sent(sender)

    assert type(answer) is RetryableError
    assert "proxy" in answer.reason


# TLS.


@dataclass(frozen=True)
class Certificates:
    """An authority of our own, and a server's certificate for 127.0.0.1 and service.test that it signed."""

    authority: Path
    server: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1", "service.test").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    return Certificates(folder / "ca.pem", folder / "server.pem")


def test_tls_is_verified_against_the_backends_own_authority(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting wins over the environment, and a handshake comes first here too."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.server))
    with Server(context=certificates.context()) as server:
        backend = Plain(server.url, greeted=True, ca_bundle=str(certificates.authority))
        clock = Clock()
        with Opened(backend, clock) as sender:
            assert [sent(sender) for _ in range(2)] == [None, None]
            clock.now += 241
            assert sent(sender) is None

        assert greetings(server) == [[True, False, False], [True, False]]


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_authority_can_come_from_the_environment(
    name: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificates.authority))
    with Server(context=certificates.context()) as server, Opened(Plain(server.url)) as sender:
        monkeypatch.delenv(name)
        assert sent(sender) is None


@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE"])
def test_a_relative_path_of_the_authority_is_seen_from_where_the_application_works(
    variable: str | None, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipper process works in another folder."""
    folder, name = os.path.split(certificates.authority)
    if variable is not None:
        monkeypatch.setenv(variable, name)
    with Server(context=certificates.context()) as server:
        backend = Plain(server.url, ca_bundle=name if variable is None else None)
        with Opened(backend, cwd=folder) as sender:
            assert sent(sender) is None


def test_a_certificate_of_an_unknown_authority_is_refused(certificates: Certificates) -> None:
    with Server(context=certificates.context()) as server, Opened(Plain(server.url, greeted=True)) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert "TLS" in answer.reason
        assert "CERTIFICATE_VERIFY_FAILED" in answer.reason
        assert server.requests == []


def test_a_missing_ca_bundle_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    with Opened(Plain("https://127.0.0.1:1/")) as sender:
        answer = sent(sender)

    assert isinstance(answer, UnauthorisedError)
    assert "/no/such/file" in answer.reason


def test_a_server_that_speaks_no_tls_is_retried(certificates: Certificates) -> None:
    with Server() as server, Opened(Plain(f"https://127.0.0.1:{server.port}", timeout=(0.3, 0.3))) as sender:
        assert type(sent(sender)) is RetryableError


def test_a_tunnel_through_a_proxy_is_greeted_inside_and_opened_anew_when_idle(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy sees CONNECT alone; the handshake is the first request inside of each tunnel."""
    clock = Clock()
    with Server(tunnel_context=certificates.context()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        backend = Plain("https://service.test/p", greeted=True, ca_bundle=str(certificates.authority))
        with Opened(backend, clock) as sender:
            assert [sent(sender, "e") for _ in range(2)] == [None, None]
            clock.now += 241
            assert sent(sender, "e") is None

        lines = [[request.line.rsplit(" ", 1)[0] for request in requests] for requests in proxy.connections]
        assert lines == [
            ["CONNECT service.test:443", "POST /p", "POST /p", "POST /p"],
            ["CONNECT service.test:443", "POST /p", "POST /p"],
        ]
        assert [[request.body for request in requests[1:]] for requests in proxy.connections] == [
            [GREETING, b"e", b"e"],
            [GREETING, b"e"],
        ]


def test_backends_can_be_described_without_importing_requests() -> None:
    """An application's workers only describe them."""
    code = (
        "import sys, shipper.backends.trakerr, shipper.backends.jkool, shipper.backends.registry;"
        "print([name for name in ('requests', 'urllib3', 'tenacity', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)

    assert done.stdout.strip() == "[]"
