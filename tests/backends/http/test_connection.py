"""How responses are read, and when a connection can carry another request; against real servers."""

from __future__ import annotations

import gzip
import socket
import threading

import pytest

from shipper.backends.http.connection import MAX_BODY_BYTES
from shipper.errors import RejectedError, RetryableError

from ...support.http_backends import Described, sending, sent
from ...support.servers import CLOSE, HALF, HANG, RESET, Reply, Server


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
@pytest.mark.parametrize("times", [1, 3])
def test_informational_responses_are_skipped(status: str, times: int) -> None:
    early = f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode() * times
    replies = [Reply(raw=early + f"HTTP/1.1 {each} X\r\nContent-Length: 0\r\n\r\n".encode()) for each in (200, 400)]
    with Server(replies) as server, sending(Described(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert first is None
        assert type(second) is RejectedError
        assert len(server.connections) == 1


def test_an_informational_response_alone_is_no_response() -> None:
    early = Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n", then="close")
    with Server([early, Reply(400)]) as server, sending(Described(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert type(first) is RetryableError
        assert type(second) is RejectedError
        assert len(server.connections) == 2


def test_an_upgrade_that_was_not_requested_is_no_response() -> None:
    upgrade = Reply(raw=b"HTTP/1.1 101 Upgraded\r\n\r\n")
    with Server([upgrade, Reply(400)]) as server, sending(Described(server.url)) as sender:
        first, second = sent(sender), sent(sender)

        assert type(first) is RetryableError
        assert type(second) is RejectedError
        assert len(server.connections) == 2


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
def test_an_invalid_response_is_retryable(reply: Reply) -> None:
    with Server([reply]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert answer.reason
        assert sent(sender) is None


@pytest.mark.parametrize(
    "reply",
    [HANG, Reply(raw=b"HTTP/1.1 200", then="hang"), Reply(raw=HALF.raw, then="hang")],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_server_that_hangs_takes_no_longer_than_the_timeout(reply: Reply) -> None:
    with Server([reply]) as server, sending(Described(server.url, timeout=(5, 0.2))) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert "in time" in answer.reason


def test_a_response_that_trickles_takes_no_longer_than_the_timeout() -> None:
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
        with sending(Described(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=(5, 0.3))) as sender:
            answer = sent(sender)
    finally:
        stop.set()
        thread.join()
        listener.close()

    assert type(answer) is RetryableError
    assert "in time" in answer.reason


def test_a_large_body_is_read_up_to_a_limit_and_its_connection_closed() -> None:
    reply = Reply(400, body=b"y" * (MAX_BODY_BYTES + 5000))
    with Server([reply]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "y" * MAX_BODY_BYTES
        assert sent(sender) is None
        assert len(server.connections) == 2


def test_a_body_of_exactly_the_limit_keeps_its_connection() -> None:
    with Server([Reply(400, body=b"y" * MAX_BODY_BYTES)]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert len(answer.body) == MAX_BODY_BYTES
        assert sent(sender) is None
        assert len(server.connections) == 1


def test_a_compressed_body_is_not_decompressed() -> None:
    """The request accepts no compression; a small body must not become a large one."""
    bomb = gzip.compress(b"0" * 10_000_000)
    with Server([Reply(400, {"Content-Encoding": "gzip"}, bomb)]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert len(answer.body) <= len(bomb)


def test_a_chunked_body_is_read() -> None:
    raw = b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Server([Reply(raw=raw)]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "abcde"
        assert sent(sender) is None
        assert len(server.connections) == 1


def test_a_length_that_is_given_twice_is_accepted() -> None:
    raw = b"HTTP/1.1 400 No\r\nContent-Length: 3, 3\r\n\r\nabc"
    with Server([Reply(raw=raw)]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "abc"


@pytest.mark.parametrize("behind", [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"d"])
def test_a_connection_with_trailing_bytes_is_not_reused(behind: bytes) -> None:
    """Otherwise the trailing bytes would be taken for the response to the next request."""
    raw = b"HTTP/1.1 200 Yes\r\nContent-Length: 3\r\n\r\nabc" + behind
    with Server([Reply(raw=raw)]) as server, sending(Described(server.url)) as sender:
        assert [sent(sender), sent(sender)] == [None, None]
        assert len(server.connections) == 2


def test_a_response_in_pieces_is_read() -> None:
    """Two responses, each sent byte by byte, on one connection."""
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
        with sending(Described(f"http://127.0.0.1:{listener.getsockname()[1]}")) as sender:
            answers = [sent(sender), sent(sender)]
    finally:
        thread.join()
        listener.close()

    assert [answer.body for answer in answers if isinstance(answer, RejectedError)] == ["abc", "abc"]


def test_a_body_without_length_ends_with_its_connection() -> None:
    raw = b"HTTP/1.0 400 No\r\n\r\nall of it"
    with Server([Reply(raw=raw, then="close")]) as server, sending(Described(server.url)) as sender:
        answer = sent(sender)

        assert isinstance(answer, RejectedError)
        assert answer.body == "all of it"


def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    with Server([Reply(then="close"), Reply(then="close")]) as server, sending(Described(server.url)) as sender:
        assert [sent(sender) for _ in range(3)] == [None, None, None]

        assert [len(requests) for requests in server.connections] == [1, 1, 1]
