"""Which connection a request takes, idle or new, and when a handshake precedes it; against real servers."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from shipper.backends.http.connect import find_route
from shipper.backends.http.connection import MAX_BODY_BYTES
from shipper.errors import DeliveryError, RetryableError, UnauthorisedError

from ...support.http_backends import (
    CONTEXT,
    HANDSHAKE,
    Behaviour,
    Clock,
    Described,
    handshakes,
    sending,
    sent,
    serving,
    together,
)
from ...support.servers import CLOSE, HALF, HANG, RESET, Reply, Request, Server


def test_the_handshake_is_the_first_request_of_a_connection() -> None:
    with Server() as server, sending(Described(f"{server.url}/p?q", shakes_hands=True)) as sender:
        assert [sent(sender, "e") for _ in range(3)] == [None] * 3

        assert handshakes(server) == [[True, False, False, False]]
        first = server.requests[0]
        assert first.line == "POST /p?q HTTP/1.1"
        assert first.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "content-type": "text/handshake",
            "content-length": str(len(HANDSHAKE)),
        }


def test_every_connection_begins_with_a_handshake() -> None:
    """After a close, a reset, a cut response, a status 101, a body over the limit, and 241 idle seconds."""

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
    with Server(answer) as server, sending(Described(server.url, shakes_hands=True), clock) as sender:
        for message in ("close", "reset", "half", "early", "large", "idle"):
            sent(sender, message)
        clock.now += 241
        assert sent(sender, "after") is None

        assert len(server.connections) == 7
        assert all(first and not any(others) for first, *others in handshakes(server))


def test_concurrent_connections_begin_with_a_handshake_each() -> None:
    with (
        Server() as server,
        sending(Described(server.url, shakes_hands=True)) as sender,
        ThreadPoolExecutor(4) as threads,
    ):
        assert list(threads.map(lambda number: sent(sender), range(40))) == [None] * 40

        for requests in handshakes(server):
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
def test_no_event_is_sent_after_a_failed_handshake(reply: Reply, kind: type[DeliveryError]) -> None:
    """The event is never to blame: every error of a handshake is retryable."""
    with Server([reply]) as server, sending(Described(server.url, shakes_hands=True)) as sender:
        answer = sent(sender, "event")

        assert type(answer) is kind
        assert server.bodies == [HANDSHAKE]
        assert sent(sender, "event") is None
        assert handshakes(server) == [[True], [True, False]]


def test_the_retry_after_of_a_handshake_is_obeyed() -> None:
    with (
        Server([Reply(503, {"Retry-After": "9"})]) as server,
        sending(Described(server.url, shakes_hands=True)) as sender,
    ):
        answer = sent(sender)

        assert isinstance(answer, RetryableError)
        assert answer.retry_after == 9.0


def test_a_handshake_that_hangs_takes_no_longer_than_the_timeout() -> None:
    with Server([HANG]) as server, sending(Described(server.url, shakes_hands=True, timeout=(5, 0.2))) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert "in time" in answer.reason


UNANNOUNCED = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", then="close")


ANNOUNCED = Reply(then="close")


REFUSED = Reply(401)


def bodies(server: Server) -> list[list[bytes]]:
    """The bodies of each connection's requests."""
    return [[request.body for request in requests] for requests in server.connections]


def arrived(server: Server) -> list[bytes]:
    return [body for body in server.bodies if body != HANDSHAKE]


def begin_with_the_handshake(connections: list[list[bytes]]) -> bool:
    return all(first == HANDSHAKE and HANDSHAKE not in others for first, *others in connections)


@pytest.mark.parametrize("shakes_hands", [False, True])
@pytest.mark.parametrize("fate", [HANG, RESET, CLOSE], ids=["silence", "reset", "close"])
def test_one_dead_idle_connection_makes_the_others_doubtful(fate: Reply, shakes_hands: bool) -> None:
    """All idle connections are dead: one of them is tried, then the event goes over a new one."""
    behaviour = Behaviour()
    with serving(behaviour) as server:
        backend = Described(server.url, shakes_hands, timeout=(5, 0.5 if fate is HANG else 5))
        with sending(backend) as sender:
            together(sender, backend.meeting, 8)
            behaviour.answer = lambda conn, nth, request: fate if conn < 8 else None

            assert sent(sender, "after the pause") is None

            assert len(server.connections) == 9
            assert arrived(server)[8:] == [b"after the pause"] * 2, "one try on a dead connection, one on a new one"
            assert sent(sender, "next") is None
            assert len(server.connections) == 9
            assert not shakes_hands or begin_with_the_handshake(bodies(server))


def test_half_of_the_idle_connections_are_dead() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as server:
        backend = Described(server.url, timeout=(5, 0.5))
        with sending(backend) as sender:
            together(sender, backend.meeting, 8)
            behaviour.answer = lambda conn, nth, request: HANG if conn < 8 and conn % 2 else None

            together(sender, backend.meeting, 4)

            assert len(arrived(server)) <= 8 + 4 + 4, "each event was tried on one idle connection at the most"


def test_a_connection_that_was_used_since_stays_in_use() -> None:
    """Only connections last used before the request on the dead one began are doubtful."""
    clock = Clock()
    behaviour = Behaviour()
    with serving(behaviour) as server:
        backend = Described(server.url, timeout=(5, 2))
        with sending(backend, clock) as sender, ThreadPoolExecutor(1) as threads:
            together(sender, backend.meeting, 2)
            behaviour.answer = lambda conn, nth, request: HANG if request.body == b"dead" and conn < 2 else None

            dead = threads.submit(sent, sender, "dead")
            server.wait_for(3)
            clock.now += 1
            assert sent(sender, "alive") is None
            assert dead.result(30) is None
            together(sender, backend.meeting, 2)

            assert len(server.connections) == 3


def test_a_server_that_was_restarted_gets_the_next_event_at_once() -> None:
    """Its connections were closed while they were idle."""
    behaviour = Behaviour()
    with serving(behaviour) as server:
        port = server.port
        backend = Described(server.url, True)
        with sending(backend) as sender:
            together(sender, backend.meeting, 8)
            server.__exit__()
            with serving(Behaviour(), port=port) as restarted:
                assert sent(sender, "after the restart") is None
                assert bodies(restarted) == [[HANDSHAKE, b"after the restart"]]


def test_a_server_that_is_slow_on_a_new_connection_is_asked_once() -> None:
    behaviour = Behaviour(lambda conn, nth, request: HANG)
    with serving(behaviour) as server, sending(Described(server.url, timeout=(5, 0.3))) as sender:
        result = sent(sender)

        assert isinstance(result, RetryableError)
        assert server.bodies == [b"event"]


def test_an_event_whose_response_was_cut_is_not_sent_again_at_once() -> None:
    """The connection was alive, and the server has read the event."""
    half = Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", then="reset")
    behaviour = Behaviour(lambda conn, nth, request: half if nth == 2 else None)
    with serving(behaviour) as server, sending(Described(server.url)) as sender:
        assert sent(sender, "one") is None
        result = sent(sender, "two")

        assert isinstance(result, RetryableError)
        assert server.bodies == [b"one", b"two"]


def test_a_connection_that_was_idle_too_long_is_opened_anew() -> None:
    clock = Clock()
    with Server() as server, sending(Described(server.url), clock) as sender:
        assert sent(sender) is None
        clock.now += 44
        assert sent(sender) is None
        assert len(server.connections) == 1
        clock.now += 45
        assert sent(sender) is None

        assert [len(requests) for requests in server.connections] == [2, 1]


def test_a_connection_that_is_too_old_is_opened_anew() -> None:
    """The host may have a new address by then, although the old one still responds."""
    clock = Clock()
    with Server() as server, sending(Described(server.url), clock) as sender:
        for _ in range(5):
            assert sent(sender) is None
            clock.now += 30

        assert [len(requests) for requests in server.connections] == [4, 1]


def test_the_limits_of_connections_are_settings() -> None:
    clock = Clock()
    with Server() as server, sending(replace(Described(server.url), max_idle=5, max_age=9), clock) as sender:
        for seconds in (4, 4, 4, 5, 0):
            assert sent(sender) is None
            clock.now += seconds

        assert [len(requests) for requests in server.connections] == [3, 1, 1]


@pytest.mark.parametrize(("keepalive", "is_on"), [(15.0, 1), (0.5, 1), (0, 0)])
def test_idle_connections_are_probed(keepalive: float, is_on: int) -> None:
    with Server() as server:
        route = find_route(Described(server.url, keepalive=keepalive), CONTEXT)
        connection = route.connect()
        sock = connection._sock

        assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(is_on)
        if is_on:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == max(1, round(keepalive))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.close()
        route.close()


ENDS = {
    "announced": lambda conn, nth, request: ANNOUNCED,
    "unannounced": lambda conn, nth, request: UNANNOUNCED,
    "closed when the next request comes": lambda conn, nth, request: CLOSE if nth > 1 else None,
    "reset when the next request comes": lambda conn, nth, request: RESET if nth > 1 else None,
}


@pytest.mark.parametrize("shakes_hands", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_server_of_one_request_per_connection_gets_every_event(end: str, shakes_hands: bool) -> None:
    with serving(Behaviour(ENDS[end])) as server, sending(Described(server.url, shakes_hands)) as sender:
        names = [f"event {number}" for number in range(20)]

        assert [sent(sender, name) for name in names] == [None] * 20

        first_of_each = [requests[0] for requests in bodies(server)]
        assert [body for body in first_of_each if body != HANDSHAKE] == [name.encode() for name in names]
        if shakes_hands:
            assert len(server.connections) <= 2 * 20 + 2, "it was recognised: one handshake per event, no failed tries"


@pytest.mark.parametrize("limit", [2, 3, 5])
@pytest.mark.parametrize("reply", [ANNOUNCED, UNANNOUNCED, CLOSE, RESET], ids=["said", "unsaid", "closed", "reset"])
def test_each_connection_begins_with_a_handshake_when_a_server_closes_after_some_requests(
    limit: int, reply: Reply
) -> None:
    behaviour = Behaviour(lambda conn, nth, request: reply if nth > limit else None)
    with serving(behaviour) as server, sending(Described(server.url, True)) as sender:
        names = [f"event {number}" for number in range(20)]

        assert [sent(sender, name) for name in names] == [None] * 20

        assert {*arrived(server)} == {name.encode() for name in names}
        assert begin_with_the_handshake(bodies(server))


@pytest.mark.parametrize("first", [ANNOUNCED, UNANNOUNCED, RESET], ids=["said", "unsaid", "reset"])
def test_a_server_that_closed_once_after_the_handshake_gets_another_handshake(first: Reply) -> None:
    """The server requires a handshake on every connection that carries events."""

    def answer(conn: int, nth: int, request: Request) -> Reply | None:
        if conn == 0 and (first is not RESET or nth > 1):
            return first
        greeted = assert_server(behaviour).connections[conn][0].body == HANDSHAKE
        return None if greeted else REFUSED

    behaviour = Behaviour(answer)
    with serving(behaviour) as server, sending(Described(server.url, True)) as sender:
        assert [sent(sender, f"{number}") for number in range(3)] == [None] * 3

        assert bodies(server)[1] == [HANDSHAKE, b"0", b"1", b"2"]


def assert_server(behaviour: Behaviour) -> Server:
    assert behaviour.server is not None
    return behaviour.server


def test_an_event_that_was_refused_without_a_handshake_is_sent_again() -> None:
    """The server closes two connections after the handshake by chance; it refuses events without a handshake."""

    def answer(conn: int, nth: int, request: Request) -> Reply | None:
        if conn < 2:
            return ANNOUNCED
        greeted = assert_server(behaviour).connections[conn][0].body == HANDSHAKE
        return None if greeted else Reply(400)

    behaviour = Behaviour(answer)
    with serving(behaviour) as server, sending(Described(server.url, True)) as sender:
        first = sent(sender)
        second = sent(sender)

        assert type(first) is RetryableError
        assert second is None
        assert bodies(server)[3] == [HANDSHAKE, b"event"]


def test_an_event_that_is_wrong_is_refused_by_a_server_of_one_request_per_connection() -> None:
    def answer(conn: int, nth: int, request: Request) -> Reply | None:
        return Reply(400, then="close") if request.body == b"wrong" else ANNOUNCED

    with serving(Behaviour(answer)) as server, sending(Described(server.url, True)) as sender:
        good = sent(sender, "good")
        wrong = sent(sender, "wrong")

        assert good is None
        assert type(wrong).__name__ == "RejectedError"


def test_a_server_that_keeps_connections_again_gets_its_handshake_on_them() -> None:
    clock = Clock()
    behaviour = Behaviour(ENDS["announced"])
    with serving(behaviour) as server, sending(Described(server.url, True), clock) as sender:
        assert sent(sender, "alone") is None
        behaviour.answer = lambda conn, nth, request: None
        clock.now += 121
        assert [sent(sender, f"{number}") for number in range(3)] == [None] * 3

        assert bodies(server)[-1] == [HANDSHAKE, b"0", b"1", b"2"]


def test_a_refused_event_closes_the_connection_so_that_the_next_one_begins_with_a_handshake() -> None:
    """A gateway may keep the connection while the server behind it is another one."""
    behaviour = Behaviour(lambda conn, nth, request: REFUSED if (conn, nth) == (0, 2) else None)
    with serving(behaviour) as server, sending(Described(server.url, True)) as sender:
        first = sent(sender, "one")
        second = sent(sender, "one")

        assert isinstance(first, UnauthorisedError)
        assert second is None
        assert bodies(server) == [[HANDSHAKE, b"one"], [HANDSHAKE, b"one"]]
