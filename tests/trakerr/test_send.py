"""send_event: one request in the calling thread, and ApiException if it fails."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shipper
from shipper.trakerr import ApiException, TrakerrClient
from shipper.trakerr.post import post

from ..support.servers import CLOSE, HALF, RESET, Reply, Server
from ..support.socks5 import proxying
from ..support.trakerr_service import Service, running_service
from ..support.waiting import scaled


@pytest.fixture
def service(spool: Path) -> Iterator[Service]:
    with running_service(spool) as server:
        yield server


def test_an_event_is_there_when_send_event_returns(service: Service) -> None:
    client = TrakerrClient("k")

    answer = client.send_event(client.create_new_app_event("info", event_message="now"))

    assert answer == (None, 200)
    (event,) = service.arrived()
    assert event["eventMessage"] == "now"
    headers = service.requests[0].headers
    assert service.requests[0].target == "/api/v1/events"
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["user-agent"] == f"shipper/{shipper.__version__}"
    assert headers["idempotency-key"]


def test_the_body_is_that_of_an_event_that_was_queued(service: Service) -> None:
    client = TrakerrClient("k", tags=["a"])
    event = client.create_new_app_event(exc_info=ValueError("é"))

    client.send_event_async(event)
    client.send_event(event)

    first, second = service.delivered()
    changing = ("eventTime", "contextCpuPercentage", "contextMemoryPercentage")
    assert {key: first[key] for key in first if key not in changing} == {
        key: second[key] for key in second if key not in changing
    }
    assert all(body.isascii() for body in service.bodies)


@pytest.mark.parametrize("status", [201, 204, 206])
def test_every_status_of_success_is_one(spool: Path, status: int) -> None:
    with running_service(spool, [Reply(status, body=b"" if status == 204 else b"{}")]):
        client = TrakerrClient("k")
        assert client.send_event(client.create_new_app_event()) == (None, status)


@pytest.mark.parametrize("status", [303, 400, 401, 404, 413, 429, 500, 503])
def test_any_other_answer_is_an_api_exception_with_all_that_was_said(spool: Path, status: int) -> None:
    with running_service(spool, [Reply(status, {"X-Why": "because"}, b"what was said")]) as service:
        client = TrakerrClient("k")
        with pytest.raises(ApiException) as caught:
            client.send_event(client.create_new_app_event())

    error = caught.value
    assert (error.status, error.reason, error.body, error.headers["x-why"]) == (
        status, "Reason", "what was said", "because"
    )  # fmt: skip
    assert str(error).startswith(f"({status})\nReason: Reason\nHTTP response headers: ")
    assert str(error).endswith("HTTP response body: what was said\n")
    assert len(service.requests) == 1


@pytest.mark.parametrize("reply", [RESET, CLOSE, HALF])
def test_half_an_answer_is_an_api_exception_without_status(spool: Path, reply: Reply) -> None:
    with running_service(spool, [reply]):
        client = TrakerrClient("k")
        with pytest.raises(ApiException) as caught:
            client.send_event(client.create_new_app_event())

    assert caught.value.status == 0
    assert caught.value.reason


def test_a_refused_connection_is_an_api_exception_without_status(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = TrakerrClient("k", url=f"http://127.0.0.1:{port}")

    with pytest.raises(ApiException, match="refused") as caught:
        client.send_event(client.create_new_app_event())

    assert caught.value.status == 0


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal"])
def test_a_server_that_stops_answering_is_given_up(spool: Path, raw: bytes) -> None:
    """T18: The old client had no timeout."""
    with running_service(spool, [Reply(raw=raw, then="hang")]):
        client = TrakerrClient("k", timeout=(1.0, 0.3))
        begun = time.monotonic()
        with pytest.raises(ApiException):
            client.send_event(client.create_new_app_event())
        took = time.monotonic() - begun

    assert took < scaled(3)


def test_a_server_that_answers_byte_by_byte_is_given_up() -> None:
    """T18: The timeout covers the whole answer; it does not start again with each byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not ended.wait(0.05):
                        connection.sendall(b"x")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(ApiException):
            post(f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", {}, (1.0, 0.3))
        took = time.monotonic() - begun
        ended.set()
        thread.join()

    assert took < scaled(3)


def test_a_redirect_is_followed_at_home_and_never_elsewhere() -> None:
    """The API key is in the body, and must not reach another host."""
    with Server() as elsewhere:
        answers = [Reply(307, {"Location": "/new"}), Reply(), Reply(307, {"Location": f"{elsewhere.url}/events"})]
        with Server(answers) as home:
            assert post(f"{home.url}/old", b"{}", {}, (3, 3)) == 200
            with pytest.raises(ApiException) as caught:
                post(f"{home.url}/old", b"{}", {}, (3, 3))

    assert caught.value.status == 307
    assert [(request.method, request.target) for request in home.requests][:2] == [("POST", "/old"), ("POST", "/new")]
    assert elsewhere.requests == []


def test_after_a_303_the_other_address_is_asked_for_without_the_body() -> None:
    with Server([Reply(303, {"Location": "/done"}), Reply(204)]) as server:
        assert post(f"{server.url}/events", b"{}", {"Content-Type": "application/json"}, (3, 3)) == 204

    first, second = server.requests
    assert [(each.method, each.target, each.body) for each in (first, second)] == [
        ("POST", "/events", b"{}"),
        ("GET", "/done", b""),
    ]
    assert "content-type" not in second.headers


def test_redirects_in_a_circle_come_to_an_end() -> None:
    with Server(default=Reply(302, {"Location": "/other"})) as server, pytest.raises(ApiException) as caught:
        post(f"{server.url}/one", b"{}", {}, (3, 3))

    assert caught.value.status == 302


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:p%40ss@"))
        status = post("http://service.invalid/events?a=1", b"{}", {"X-Own": "1"}, (3, 3))

    (request,) = proxy.requests
    assert status == 200
    assert request.target == "http://service.invalid/events?a=1"
    assert request.headers["host"] == "service.invalid"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"


@pytest.mark.parametrize(("scheme", "host"), [("socks5h", "service.test"), ("socks5", "127.0.0.1")])
def test_a_socks_proxy_of_the_environment_is_used(scheme: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("socks")
    with Server() as server, proxying(server) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")

        assert post(f"http://{host}:4711/events", b"{}", {}, (3, 3)) == 200

        assert proxy.asked == [f"{host}:4711"]
        assert [request.target for request in server.requests] == ["/events"]


def test_without_pysocks_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socks", None)

    with pytest.raises(ApiException, match=r"pip install 'shipper-logs\[socks\]'"):
        post("http://127.0.0.1:4711/events", b"{}", {}, (3, 3))


def test_a_host_that_needs_no_proxy_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        assert post(f"{server.url}/events", b"{}", {}, (3, 3)) == 200


def test_a_password_in_the_address_becomes_a_header() -> None:
    with Server() as server:
        post(f"{server.url}/events".replace("//", "//u:p@"), b"{}", {}, (3, 3))

    assert server.requests[0].headers["authorization"] == "Basic dTpw"


def test_a_server_without_a_valid_certificate_gets_nothing() -> None:
    with Server() as server, pytest.raises(ApiException) as caught:
        post(f"{server.url}/".replace("http:", "https:"), b"{}", {}, (1, 1))

    assert caught.value.status == 0
    assert not any(b"{}" in request.body for request in server.requests)


def test_an_event_that_the_hook_holds_back_is_not_sent(service: Service, spool: Path) -> None:
    shipper.start(
        shipper.Trakerr("k", url=service.address), app="hook", spool=spool, before_send=lambda event: None
    )
    client = TrakerrClient("k")

    with pytest.raises(ApiException, match="before_send"):
        client.send_event(client.create_new_app_event())

    assert service.requests == []


def test_secrets_in_an_event_are_masked(service: Service) -> None:
    client = TrakerrClient("k")

    client.send_event(client.create_new_app_event(event_message="password=hunter2"))

    assert service.arrived()[0]["eventMessage"] == "password=[redacted]"
