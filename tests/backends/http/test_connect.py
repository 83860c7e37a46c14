"""Proxies: which requests go through one, and the error when a proxy refuses; against real servers."""

from __future__ import annotations

import socket
import threading

import pytest

from shipper.errors import DeliveryError, RetryableError, UnauthorisedError

from ...support.http_backends import HANDSHAKE, Described, free_port, sending, sent
from ...support.servers import Reply, Server


def test_a_proxy_gets_the_whole_url_and_its_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variable is read once, when the sender is opened; a handshake goes through the proxy like an event."""
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
        with sending(Described("http://service.invalid/p", shakes_hands=True)) as sender:
            monkeypatch.delenv("http_proxy")
            assert sent(sender, "event") is None

        assert [request.target for request in proxy.requests] == ["http://service.invalid/p"] * 2
        assert [request.headers["host"] for request in proxy.requests] == ["service.invalid"] * 2
        assert [request.headers["proxy-authorization"] for request in proxy.requests] == ["Basic bWU6c2VjcmV0"] * 2
        assert proxy.bodies == [HANDSHAKE, b"event"]


def test_a_host_in_no_proxy_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server, sending(Described(server.url)) as sender:
        assert sent(sender) is None


def test_a_proxy_that_requires_credentials_is_unauthorised(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server([Reply(407)]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with sending(Described("http://service.invalid/")) as sender:
            assert isinstance(sent(sender), UnauthorisedError)


@pytest.mark.parametrize(
    ("status", "kind"), [(407, UnauthorisedError), (403, UnauthorisedError), (502, RetryableError)]
)
def test_a_tunnel_that_a_proxy_refuses_is_unauthorised_or_retryable(
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
        with sending(Described("https://service.invalid/")) as sender:
            answer = sent(sender)
    finally:
        thread.join()
        listener.close()

    assert type(answer) is kind


def test_a_proxy_that_is_down_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with sending(Described("http://service.invalid/")) as sender:
        answer = sent(sender)

    assert type(answer) is RetryableError
    assert "proxy" in answer.reason
