"""Measures publishing to a stream and delivery from it: `python -m tests.benchmarks.stream [publish] [relay] [far]`.

    publish   one host publishes a backlog to a stream of 1 and 3 replicas, and of 3 that sync every write
    relay     one relay delivers a full stream to an HTTP sink next door
    far       one, two and three relays deliver to a sink that answers after 50 ms, one request a relay at a time

The servers run on the same machine. Prints a table; compare the ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from shipper.backends.jetstream import JetStream
from shipper.backends.protocol import AppContext
from shipper.delivery.dead.writer import DeadLetters
from shipper.delivery.deliverer import Deliverer
from shipper.journal.cursors.cursor import Cursor
from shipper.spool.layout import Spool
from shipper.stream.client import Client
from shipper.stream.publisher import Publisher
from shipper.stream.streams import consumer, consumer_info, create_consumer, create_streams

from ..support.nats_servers import Cluster, running_cluster
from . import backlog

CONTEXT = AppContext("shop", "/srv/shop", "web1", "10.0.0.7", lambda time: None)
STREAM_BYTES = 200_000_000
FAR_SECONDS = 0.05
SINK = """
import socket, sys, threading, time
delay, listener = float(sys.argv[1]), socket.create_server(("127.0.0.1", 0), backlog=512)
print(listener.getsockname()[1], flush=True)
def serve(connection):
    stream = connection.makefile("rb")
    while True:
        length = 0
        while (line := stream.readline()) not in (b"\\r\\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not line:
            return
        stream.read(length)
        time.sleep(delay)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def settings_on(cluster: Cluster) -> JetStream:
    return JetStream(cluster.servers, replicas=len(cluster.nodes), max_bytes=STREAM_BYTES)


def publish(cluster: Cluster, events: int) -> tuple[float, float]:
    """Events a second, and CPU seconds per event in the publishing process."""
    folder = tempfile.mkdtemp()
    try:
        backlog.write(Path(folder), ["jetstream"], events)
        spool = Spool(folder)
        publisher = Publisher(settings_on(cluster))
        publisher.open(CONTEXT)
        cursor = Cursor(os.path.join(spool.cursors, "jetstream.json"), spool.journal)
        deliverer = Deliverer(cursor, publisher, DeadLetters(spool.dead, "jetstream", limit=10**6))
        began, worked = time.monotonic(), time.process_time()
        while deliverer.progress.settled < events:
            deliverer.deliver_once()
        took, cpu = time.monotonic() - began, time.process_time() - worked
        deliverer.stop()
        deliverer.run()
        publisher.close()
        return events / took, cpu / events
    finally:
        shutil.rmtree(folder)


def prepared(cluster: Cluster) -> Client:
    client = Client(settings_on(cluster), name="measurement")
    create_streams(client, settings_on(cluster))
    create_consumer(client, "SHIPPER", consumer("relay-http"))
    return client


def deliver(cluster: Cluster, client: Client, events: int, *, relays: int, delay: float, in_flight: int) -> float:
    """Deliver a stream of ``events`` events; events a second, measured from the first acknowledgement."""
    sink = subprocess.Popen([sys.executable, "-c", SINK, str(delay)], stdout=subprocess.PIPE, text=True)
    assert sink.stdout is not None
    environment = {
        **os.environ,
        "SHIPPER_JETSTREAM_SERVERS": cluster.servers,
        "SHIPPER_HTTP_URL": f"http://127.0.0.1:{sink.stdout.readline().strip()}/",
        "SHIPPER_HTTP_MAX_IN_FLIGHT": str(in_flight),
    }
    folders = [tempfile.mkdtemp() for _ in range(relays)]
    command = [sys.executable, "-m", "shipper.cli", "relay", "--spool"]
    messages = left(client)
    running = [subprocess.Popen([*command, folder], env=environment) for folder in folders]
    try:
        while (first := left(client)) == messages:
            time.sleep(0.01)
        began = time.monotonic()
        while left(client):
            time.sleep(0.02)
        return events * first / messages / (time.monotonic() - began)
    finally:
        sink.kill()
        sink.wait()
        for process in running:
            process.terminate()
            process.wait()
        for folder in folders:
            shutil.rmtree(folder)


def left(client: Client) -> int:
    """Messages that the consumer has not acknowledged."""
    found = consumer_info(client, "SHIPPER", "relay-http")
    assert found is not None
    return int(found["num_pending"] + found["num_ack_pending"])


def rows(wanted: list[str], events: int) -> Iterator[str]:
    """Yield one line for each measurement."""
    if "publish" in wanted:
        for name, size, sync in (("1 replica", 1, ""), ("3 replicas", 3, ""), ("3, sync always", 3, "always")):
            with running_cluster(size, sync=sync) as cluster:
                prepared(cluster).close()
                rate, cpu = publish(cluster, events)
                yield f"publish, {name}: {rate:,.0f} events/s, {cpu * 1e6:.1f} us of CPU an event"
    cases = [("relay, next door", 1, 0.0, 4)] if "relay" in wanted else []
    cases += [(f"{count} relays, sink of 50 ms", count, FAR_SECONDS, 1) for count in (1, 2, 3) if "far" in wanted]
    for name, relays, delay, in_flight in cases:
        with running_cluster(3) as cluster:
            client = prepared(cluster)
            publish(cluster, events)
            rate = deliver(cluster, client, events, relays=relays, delay=delay, in_flight=in_flight)
            client.close()
            yield f"{name}: {rate:,.0f} events/s"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stream", description=__doc__)
    parser.add_argument("wanted", nargs="*", default=["publish", "relay", "far"], metavar="QUESTION")
    parser.add_argument("--events", type=int, default=100_000, help="of each measurement (100,000)")
    options = parser.parse_args()
    for line in rows(options.wanted, options.events):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
