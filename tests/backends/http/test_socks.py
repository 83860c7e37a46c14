"""SOCKS proxies: with PySocks events go through them; without it a sentence says what to install."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from shipper import Trakerr
from shipper.backends.http.sender import Sender
from shipper.backends.protocol import AppContext
from shipper.errors import DeliveryError, RetryableError
from shipper.event.model import Event

from ...support.servers import Server

CONTEXT = AppContext("app", "/", "host", "127.0.0.1", lambda time: None)


class Socks5:
    """A SOCKS proxy (RFC 1928) that connects every client to one target, and keeps what they asked for."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            with suppress(OSError, struct.error):
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        _, count = client.recv(2)
        client.recv(count)
        client.sendall(b"\x05\x00")
        _, _, _, kind = client.recv(4)
        host = client.recv(client.recv(1)[0]).decode() if kind == 3 else socket.inet_ntoa(client.recv(4))
        (port,) = struct.unpack(">H", client.recv(2))
        self.asked.append(f"{host}:{port}")
        there = socket.create_connection(("127.0.0.1", self.target))
        self._sockets.append(there)
        client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        for source, sink in ((client, there), (there, client)):
            thread = threading.Thread(target=self._copy, args=(source, sink))
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxying(server: Server) -> Iterator[Socks5]:
    proxy = Socks5(server.port)
    try:
        yield proxy
    finally:
        proxy.close()


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
