"""A SOCKS proxy for tests."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .servers import Server


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
