"""The demo of several machines: two hosts publish to three servers, two relays deliver, and one of each is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...backends.jetstream import JetStream
from ...errors import DeliveryError
from ...report import Status, read_status, total
from ...spool.layout import Spool
from .application import WORKERS, Task
from .outcome import SERVICES, Outcome, undelivered
from .process import ApplicationProcess, DemoFailed, end_shipper, shipper_pid
from .progress import LIMIT, Display, Progress
from .scenario import STOP
from .servers import Children, Servers

if TYPE_CHECKING:
    from ...receiver import Receiver
    from ...stream.client import Client

STREAM_BYTES = 20_000_000
ACK_WAIT = 2.0  # seconds after which a relay takes over what a killed one had in hand
HOSTS = ("host 1", "host 2")


class ClusterDemo:
    """One demo. `play` starts all processes, kills one of each kind, and counts what arrived."""

    def __init__(self, receiver: Receiver, display: Display, records: int, seconds: float, began: float) -> None:
        self._receiver = receiver
        self._display = display
        self._records = records
        self._seconds = seconds
        self._began = began
        self._limit = began + seconds + LIMIT

    def play(self) -> Outcome:
        """Play the demo; return its numbers. DemoFailed when a process does not start or answer in time."""
        self._folder = Path(tempfile.mkdtemp(prefix="shipper-demo-"))
        self._spools = [Spool(str(self._folder / f"spool{number}")) for number in range(len(HOSTS))]
        self._ledgers = self._folder / "ledgers"
        self._ledgers.mkdir()
        self._progress = Progress(self._receiver, self._display, self._ledgers)
        try:
            with Children() as children:
                return self._play(children)
        finally:
            for spool in self._spools:
                end_shipper(spool)
                shutil.rmtree(spool.overflow, ignore_errors=True)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _play(self, children: Children) -> Outcome:
        from ...stream.client import Client

        self._servers = Servers(self._folder, children)
        for name in self._servers.names:
            self._servers.start(name)
        self._settings = JetStream(self._servers.addresses, max_bytes=STREAM_BYTES, timeout=2.0)
        client = Client(self._settings, name="shipper demo")
        try:
            self._make_streams(client)
            self._display.line(f"three servers of NATS hold a stream, {self._settings.replicas} copies of each message")
            for number in (1, 2):
                self._start_relay(children, number)
            self._display.line(f"two relays deliver from it to a receiver; its page is {self._receiver.url}")
            with contextlib.ExitStack() as stack:
                tasks = [self._task(number) for number in range(len(HOSTS))]
                running = [stack.enter_context(ApplicationProcess(self._folder, task)) for task in tasks]
                self._perform(running, children, client)
            self._progress.watch(self._has_everything, until=self._limit)
            return self._count(client)
        finally:
            client.close()

    def _make_streams(self, client: Client) -> None:
        from ...stream.streams import consumer, create_consumer, create_streams

        def are_made() -> bool:
            with contextlib.suppress(DeliveryError):
                create_streams(client, self._settings)
                for service in SERVICES:
                    create_consumer(client, self._settings.stream, consumer(f"relay-{service}", ack_wait=ACK_WAIT))
                return True
            return False

        if not self._progress.watch(are_made, until=self._limit):
            raise DemoFailed("the servers did not come up")

    def _start_relay(self, children: Children, number: int) -> None:
        path = [os.path.abspath(entry) for entry in sys.path]
        code = f"import sys; sys.path[:] = {path!r}; from shipper.cli import main; sys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, "relay", "--servers", self._servers.addresses]
        children.start(
            f"relay {number}",
            [*command, "--spool", str(self._folder / f"relay{number}")],
            SHIPPER_TRAKERR_API_KEY="demo-key",
            SHIPPER_TRAKERR_URL=self._receiver.trakerr_url,
            SHIPPER_TRAKERR_LEVEL="NOTSET",
            SHIPPER_JKOOL_TOKEN="demo-token",
            SHIPPER_JKOOL_URL=self._receiver.jkool_url,
            SHIPPER_JKOOL_LEVEL="NOTSET",
            SHIPPER_RETRY_INITIAL="0.2",
            SHIPPER_RETRY_MAXIMUM="1",
        )

    def _task(self, host: int) -> Task:
        return Task(
            trakerr_url="",
            jkool_url="",
            spool=self._spools[host].path,
            ledgers=str(self._ledgers),
            records=self._records // len(HOSTS),
            seconds=self._seconds,
            stop_timeout=STOP,
            servers=self._servers.addresses,
            first_worker=10 * host,
        )

    # -- what happens ------------------------------------------------------------------------------------------------

    def _perform(self, running: list[ApplicationProcess], children: Children, client: Client) -> None:
        for each in running:
            each.answer("ready", self._limit)
        start = time.monotonic()
        self._display.line(f"on each of two hosts an application with {WORKERS} workers logs to the stream")
        script: list[tuple[float, Callable[[], None]]] = [
            (0.35, lambda: self._kill_leader(client)),
            (0.5, lambda: self._kill_relay(children)),
            (0.6, lambda: self._kill_shipper(self._spools[0])),
            (0.7, lambda: self._kill_worker(running[1])),
        ]
        for share, happens in script:
            self._progress.watch(lambda: False, until=start + share * self._seconds)
            happens()
        self._progress.watch(lambda: False, until=start + self._seconds)
        self._display.line("the applications stop; what is on its way is published, and delivered")
        for each in running:
            each.send("stop")
        for each in running:
            self._progress.watch(lambda each=each: each.has_answered, until=self._limit)  # type: ignore[misc]
            each.answer("stopped", self._limit)

    def _kill_leader(self, client: Client) -> None:
        from ...stream.streams import stream_info

        info = stream_info(client, self._settings.stream) or {}
        name = info.get("cluster", {}).get("leader") or self._servers.names[0]
        self._servers.kill(name)
        self._display.line(f"server {name}, the stream's leader, got SIGKILL; another one leads")
        self._servers.start(name)

    def _kill_relay(self, children: Children) -> None:
        children.kill("relay 1")
        self._display.line("relay 1 got SIGKILL; relay 2 takes over what it had in hand")

    def _kill_shipper(self, spool: Spool) -> None:
        self._progress.watch(lambda: shipper_pid(spool) is not None, until=self._limit)
        pid = shipper_pid(spool)
        if pid is None:
            raise DemoFailed("no shipper process runs")
        os.kill(pid, signal.SIGKILL)
        self._display.line(f"the shipper process {pid} of {HOSTS[0]} got SIGKILL; the next one continues")

    def _kill_worker(self, application: ApplicationProcess) -> None:
        application.send("kill")
        killed, replacement = application.answer("killed", self._limit).split()
        self._display.line(f"worker {killed} of {HOSTS[1]} got SIGKILL; worker {replacement} replaces it")

    # -- the outcome -------------------------------------------------------------------------------------------------

    def _has_everything(self) -> bool:
        logged = self._progress.logged()
        return all(logged <= each for each in self._progress.names.values())

    def _count(self, client: Client) -> Outcome:
        from ...stream.streams import consumer_info

        logged = self._progress.logged()
        self._progress.update()
        names = self._progress.names
        statuses = [read_status(spool, "demo") for spool in self._spools]
        waiting = sum(status.left for status in statuses)
        for service in SERVICES:
            state = consumer_info(client, self._settings.stream, f"relay-{service}") or {}
            waiting += state.get("num_pending", 0) + state.get("num_ack_pending", 0)
        lost, left = undelivered(logged, names, dict.fromkeys(SERVICES, len(logged) if waiting else 0))
        counts = self._receiver.counts()
        return Outcome(
            emitted=len(logged),
            delivered={service: len(logged & each) for service, each in names.items()},
            retried=sum(counts[service]["failed"] for service in SERVICES),
            duplicates=sum(counts[service]["events"] - len(names[service]) for service in SERVICES),
            dropped=sum(map(_dropped, statuses)),
            lost=lost,
            left=left,
            unfinished=len({name for each in names.values() for name in each} - logged),
            seconds=time.monotonic() - self._began,
        )


def _dropped(status: Status) -> int:
    return status.total_dropped + sum(total(each.dropped) for each in status.backends)
