"""Servers that are never the bottleneck: nginx, servers for single cases, and a proxy that adds a round trip."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

_CONF = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; client_max_body_size 100m;
  client_body_buffer_size 1m; tcp_nodelay on;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{good} backlog=4096; location = /counted {{ stub_status; }} location / {{ return 200; }} }}
  server {{ listen 127.0.0.1:{bad} backlog=4096; location / {{ return 503; }} }}
}}
"""


class Nginx:
    """``good`` answers everything with 200, ``bad`` with 503."""

    def __init__(self, good: int, bad: int) -> None:
        self.good = f"http://127.0.0.1:{good}"
        self.bad = f"http://127.0.0.1:{bad}"
        self.port = good

    def requests(self) -> int:
        """How many requests `good` has got so far, without this one."""
        with urllib.request.urlopen(f"{self.good}/counted", timeout=5) as answer:
            found = re.search(r"(\d+)\s+(\d+)\s+(\d+)\s*\nReading", answer.read().decode())
        assert found is not None
        return int(found[3])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def nginx(core: int | None = None) -> Iterator[Nginx]:
    """Debian's nginx with one worker, on the core ``core`` if given."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    folder = Path(tempfile.mkdtemp(prefix="nginx-"))
    folder.chmod(0o755)
    good, bad = free_port(), free_port()
    (folder / "conf").write_text(_CONF.format(folder=folder, good=good, bad=bad))
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "conf"), "-e", str(folder / "error.log")]
    )
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    try:
        _wait_for(good)
        yield Nginx(good, bad)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Arrivals(socketserver.ThreadingTCPServer):
    """Answers every request with 200; ``times`` has `time.monotonic()` of each request whose body contains ``word``."""

    daemon_threads = True

    def __init__(self, word: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Arrival)
        self.word = word
        self.times: list[float] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Arrival(socketserver.StreamRequestHandler):
    server: Arrivals

    def handle(self) -> None:
        while self.rfile.readline():
            length = 0
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            if self.server.word in self.rfile.read(length):
                self.server.times.append(time.monotonic())
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextlib.contextmanager
def arrivals(word: bytes) -> Iterator[Arrivals]:
    """Run a server on this machine that notes when requests with ``word`` arrive."""
    with Arrivals(word) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Yield the address of a server that takes connections and never answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(4096)
        yield f"http://127.0.0.1:{one.getsockname()[1]}"


class Proxy:
    """A proxy for ``port`` that delays every answer by ``seconds``, and notes when each answer passes."""

    def __init__(self, port: int, seconds: float) -> None:
        self.url = ""
        self.answers: list[float] = []  # time.monotonic(); one request at a time per connection: a read is an answer
        self._port = port
        self._seconds = seconds

    def rate(self, after: float, during: float) -> float:
        """Answers a second in the ``during`` seconds that begin ``after`` seconds after the first answer."""
        if not self.answers:
            return 0.0
        start = self.answers[0] + after
        return sum(start <= at < start + during for at in self.answers) / during

    async def serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        ways = self._pass(reader, there_writer, 0.0), self._pass(there_reader, writer, self._seconds)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*ways)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65536):
                if data.startswith(b"HTTP/"):
                    self.answers.append(time.monotonic())
                if seconds:
                    loop.call_later(seconds, _write, writer, data)
                else:
                    writer.write(data)
            loop.call_later(seconds, writer.close)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.write(data)


@contextlib.contextmanager
def delayed(port: int, seconds: float, count: int = 1) -> Iterator[list[Proxy]]:
    """Run ``count`` proxies for a port, each with a round trip of ``seconds``."""
    loop = asyncio.new_event_loop()
    proxies = [Proxy(port, seconds) for _ in range(count)]
    started = threading.Event()

    def run() -> None:
        for proxy in proxies:
            loop.run_until_complete(proxy.serve())
        started.set()
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(5)
    try:
        yield proxies
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
