"""SOCKS proxies: with PySocks events go through them; without it the error says what to install."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from shipper import Trakerr
from shipper.backends.http.sender import Sender
from shipper.backends.protocol import AppContext
from shipper.errors import DeliveryError, RetryableError
from shipper.event.model import Event

from ...support.servers import Server
from ...support.socks5 import proxying

CONTEXT = AppContext("app", "/", "host", "127.0.0.1", lambda time: None)


def sent(url: str) -> DeliveryError | None:
    sender = Sender(Trakerr("key", url=url, timeout=(5, 5)))
    sender.open(CONTEXT)
    try:
        (result,) = sender.send([Event(message="event")])
    finally:
        sender.close()
    return result


@pytest.mark.parametrize(
    ("variable", "scheme", "host"),
    [
        ("ALL_PROXY", "socks5h", "service.test"),
        ("all_proxy", "socks", "service.test"),
        ("http_proxy", "socks5", "127.0.0.1"),
        ("HTTP_PROXY", "SOCKS5H", "service.test"),
    ],
)
def test_events_go_through_a_socks_proxy(
    variable: str, scheme: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("socks")
    with Server() as server, proxying(server) as proxy:
        monkeypatch.setenv(variable, f"{scheme}://127.0.0.1:{proxy.port}")

        assert sent(f"http://{host}:4711/api") is None

        assert proxy.asked == [f"{host}:4711"]
        assert [request.target for request in server.requests] == ["/api/events"]


def test_a_socks_proxy_that_is_down_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("socks")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")

    result = sent("http://127.0.0.1:4711/")

    assert type(result) is RetryableError
    assert "refused" in result.reason


WITHOUT = """
import sys
sys.modules["socks"] = None
from tests.backends.http.test_socks import sent
print(sent("http://127.0.0.1:4711/").reason)
"""


def test_without_pysocks_the_error_names_the_extra() -> None:
    environment = {**os.environ, "ALL_PROXY": "socks5://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert "pip install 'shipper-logs[socks]'" in done.stdout
