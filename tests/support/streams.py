"""A stream for one test, on servers that may be shared, with publishers, relays and a service."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipper.backends.jetstream import JetStream
from shipper.errors import DeliveryError
from shipper.event.model import Event, EventId
from shipper.stream.client import Client
from shipper.stream.publisher import Publisher
from shipper.stream.streams import consumer, create_consumer, create_streams

from .http_backends import CONTEXT
from .nats_servers import Cluster
from .servers import Reply, Request, Server
from .waiting import holds, scaled, wait_until

STREAM_BYTES = 32 * 1024 * 1024
RECORD = json.dumps({"id": "{id}", "message": "{message}", "app": "{app}", "host": "{host}"})
_NOT_YET = re.compile("no leader|does not answer|temporarily unavailable")
FAST = {"SHIPPER_RETRY_INITIAL": "0.05", "SHIPPER_RETRY_MAXIMUM": "0.5"}


def event(number: int, text: str = "", *, level: int = 20, token: bytes = b"tokentok") -> Event:
    return Event(time=1.7e9, level=level, message=text or f"event {number}", id=EventId(token, number))


class Stream:
    """A stream with names of its own."""

    def __init__(self, cluster: Cluster, client: Client, settings: JetStream) -> None:
        self.cluster = cluster
        self.client = client
        self.settings = settings

    def with_settings(self, **more: Any) -> JetStream:
        same = ("servers", "stream", "subject", "replicas", "max_bytes", "timeout")
        return JetStream(**{**{name: getattr(self.settings, name) for name in same}, **more})

    def make(self, *durables: str, ack_wait: float = 30.0) -> None:
        """Create the streams, and these durable consumers."""
        create_streams(self.client, self.settings)
        for durable in durables:
            create_consumer(self.client, self.settings.stream, consumer(durable, ack_wait=ack_wait))

    @contextlib.contextmanager
    def publisher(self, **more: Any) -> Iterator[Publisher]:
        publisher = Publisher(self.with_settings(**more))
        publisher.open(CONTEXT)
        try:
            yield publisher
        finally:
            publisher.close()

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment in which a command or an application uses the stream."""
        named = {
            "SHIPPER_JETSTREAM_SERVERS": self.cluster.servers,
            "SHIPPER_JETSTREAM_STREAM": self.settings.stream,
            "SHIPPER_JETSTREAM_SUBJECT": self.settings.subject,
            "SHIPPER_JETSTREAM_REPLICAS": str(self.settings.replicas),
            "SHIPPER_JETSTREAM_TIMEOUT": str(self.settings.timeout),
        }
        return {**os.environ, **named, **FAST, **more}

    def command(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `shipper` with these words."""
        command = [sys.executable, "-m", "shipper.cli", *words]
        return subprocess.run(
            command, env=self.environment(**more), capture_output=True, text=True, timeout=scaled(30), check=False
        )

    @contextlib.contextmanager
    def relay(
        self, sink: Sink, *words: str, spool: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> Iterator[Relay]:
        """A relay that delivers to a sink, killed at the end of the block."""
        folder = spool or Path(tempfile.mkdtemp(prefix="relay-", dir=Path(tempfile.gettempdir(), "spools")))
        named = {"SHIPPER_HTTP_URL": sink.url, "SHIPPER_HTTP_RECORD": RECORD, "SHIPPER_HTTP_COMPRESS": "no"}
        command = [sys.executable, "-m", "shipper.cli", "relay", "--spool", str(folder), *words]
        environment = self.environment(**{**named, **(variables or {})})
        relay = Relay(
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), folder
        )
        try:
            yield relay
        finally:
            relay.kill()


class Relay:
    """A running relay."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    def status(self) -> dict[str, Any]:
        """Return the content of its status file, ``{}`` without one."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.folder / "status.json").read_text())
            return found
        return {}

    def backend(self, name: str = "http") -> dict[str, Any]:
        found: dict[str, Any] = self.status().get("backends", {}).get(name, {})
        return found

    @property
    def trouble(self) -> str:
        text: str = self.backend().get("last_error", "")
        return text

    def wait_until_open(self) -> None:
        wait_until(lambda: "held" in self.backend(), 20, "the relay has opened its backend")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Send SIGTERM, wait for its end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(scaled(20))


class Sink:
    """A service that keeps the events it has taken; `counts` tells how often each message came."""

    def __init__(self, answer: Callable[[Request], Reply | None] | None = None, *, port: int = 0) -> None:
        self.answer = answer
        self.server = Server(self._answer, port=port)
        self.events: list[dict[str, Any]] = []

    def _answer(self, request: Request) -> Reply | None:
        reply = self.answer(request) if self.answer is not None else None
        if reply is None or reply.status == 200:
            self.events.extend(json.loads(line) for line in request.body.splitlines())
        return reply

    def __enter__(self) -> Sink:
        self.server.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.server.__exit__(*exc_info)

    @property
    def url(self) -> str:
        return self.server.url

    def counts(self) -> Counter[str]:
        return Counter(each["message"] for each in list(self.events))

    def wait_for(self, messages: Sequence[str] | set[str], timeout: float = 20) -> None:
        """Return when all of these have arrived."""
        wanted = set(messages)
        assert holds(lambda: wanted <= set(self.counts()), timeout), (
            f"missing: {sorted(wanted - set(self.counts()))[:10]}"
        )


def answers_of(publisher: Publisher, events: Sequence[Event], timeout: float = 20) -> Sequence[DeliveryError | None]:
    """Return the stream's answers for these events; publish again, as a deliverer does, until servers know it.

    A server answers that there is no leader until it has heard of a new stream.
    """
    found: list[DeliveryError | None] = []

    def is_answered() -> bool:
        found[:] = publisher.send(events)
        return not any(answer is not None and _NOT_YET.search(answer.reason) for answer in found)

    wait_until(is_answered, timeout, "the stream has a leader that answers")
    return found


def publish(publisher: Publisher, events: Sequence[Event], timeout: float = 20) -> None:
    """Publish again and again until all of them are stored, as a deliverer does."""
    left = list(events)
    failures: list[DeliveryError] = []

    def is_done() -> bool:
        answers = publisher.send(left)
        failures[:] = [answer for answer in answers if answer is not None]
        left[:] = [each for each, answer in zip(left, answers, strict=True) if answer is not None]
        return not left

    assert holds(is_done, timeout), f"not stored: {failures[0].reason}"


@contextlib.contextmanager
def stream_on(cluster: Cluster, *, replicas: int | None = None, max_bytes: int = STREAM_BYTES) -> Iterator[Stream]:
    """Yield a stream with unique names, which `Stream.make` creates; delete it afterwards."""
    word = uuid.uuid4().hex[:8]
    settings = JetStream(
        cluster.servers,
        stream=f"T{word}",
        subject=f"t{word}",
        replicas=replicas or len(cluster.nodes),
        max_bytes=max_bytes,
        timeout=2.0,
    )
    client = Client(settings, name="test")
    try:
        yield Stream(cluster, client, settings)
    finally:
        for name in (settings.stream, settings.dead_stream):
            with contextlib.suppress(DeliveryError):
                client.request(f"$JS.API.STREAM.DELETE.{name}")
        client.close()
