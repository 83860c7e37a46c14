"""Servers that are killed, stopped and started again while applications publish and relays deliver: nothing is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ..support.cable import cable_to
from ..support.nats_servers import Cluster, running_cluster
from ..support.servers import Request
from ..support.streams import Sink, Stream, event, publish, stream_on
from ..support.waiting import holds, pass_time, scaled, wait_until

APPLICATION = """
import logging, os, shipper, sys, time
shipper.start(app=os.environ["TEST_APP"], spool=os.environ["TEST_SPOOL"])
log, number = logging.getLogger("app"), 0
while not os.path.exists(os.environ["TEST_STOP"]):
    log.warning("%s %d", os.environ["TEST_APP"], number)
    number += 1
    time.sleep(0.002)
print(number, flush=True)
report = shipper.stop(float(os.environ["TEST_PATIENCE"]))
sys.exit(0 if report.flushed else f"not flushed: {report}")
"""


class Storm:
    """An application that logs all the time into a stream, and the sink where its events arrive."""

    def __init__(self, stream: Stream, sink: Sink, folder: Path, spool: Path) -> None:
        self.stream = stream
        self.sink = sink
        self.stop_file = folder / "stop"
        self.spool = spool
        more = {
            "TEST_APP": "storm",
            "TEST_SPOOL": str(spool),
            "TEST_STOP": str(self.stop_file),
            "TEST_PATIENCE": str(scaled(15)),
            "SHIPPER_BACKENDS": "jetstream",
        }
        self.application = subprocess.Popen(
            [sys.executable, "-c", APPLICATION],
            env=stream.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_more(self, count: int = 50) -> None:
        """Return when ``count`` more events have arrived at the sink."""
        before = len(self.sink.events)
        wait_until(lambda: len(self.sink.events) >= before + count, 30, f"{count} more events arrive")

    def end(self) -> set[str]:
        """Stop logging, wait until everything is in the stream, and return the logged messages."""
        self.stop_file.touch()
        out, errors = self.application.communicate(timeout=scaled(40))
        assert self.application.returncode == 0, errors
        return {f"storm {number}" for number in range(int(out))}

    def kill(self) -> None:
        self.application.kill()
        self.application.communicate()


def weather(cluster: Cluster, folder: Path, spool: Path, fault: Callable[[Storm, Cluster], None]) -> None:
    """Let a fault happen, and compare what was logged with what arrived."""
    with stream_on(cluster) as stream, Sink() as sink:
        stream.make("relay-http", ack_wait=2.0)
        with stream.relay(sink), stream.relay(sink):
            storm = Storm(stream, sink, folder, spool)
            try:
                storm.wait_for_more()
                fault(storm, cluster)
                storm.wait_for_more()
                logged = storm.end()
            finally:
                storm.kill()
            sink.wait_for(logged, 40)
    assert set(sink.counts()) == logged
    ids = {each["message"]: each["id"] for each in sink.events}
    assert all(ids[each["message"]] == each["id"] for each in sink.events), "what arrives again has the id that it had"


def leader_killed(storm: Storm, cluster: Cluster) -> None:
    leader = cluster.leader_of(storm.stream.settings.stream)
    leader.kill()
    storm.wait_for_more()
    leader.start()
    cluster.wait_until_ready()


def leader_stopped(storm: Storm, cluster: Cluster) -> None:
    leader = cluster.leader_of(storm.stream.settings.stream)
    leader.stop()
    storm.wait_for_more()
    leader.go_on()
    cluster.wait_until_ready()


def all_killed(storm: Storm, cluster: Cluster) -> None:
    cluster.kill()
    pass_time(1.0)
    cluster.start()


@pytest.mark.parametrize("fault", [leader_killed, leader_stopped, all_killed])
def test_nothing_is_lost_while_servers_fail(
    fault: Callable[[Storm, Cluster], None], tmp_path: Path, spool: Path
) -> None:
    with running_cluster(3) as cluster:
        weather(cluster, tmp_path, spool, fault)


def test_a_relay_that_is_cut_off_is_taken_over_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """Events that both relays sent have the same ids."""
    held = threading.Event()

    def slow(request: Request) -> None:
        held.wait(scaled(20))

    with running_cluster(1) as cluster, cable_to(cluster.nodes[0].port) as cable, stream_on(cluster) as stream:
        stream.make("relay-http", ack_wait=1.0)
        through = {"SHIPPER_JETSTREAM_SERVERS": f"nats://127.0.0.1:{cable.port}"}
        with (
            Sink(slow) as slow_sink,
            Sink() as sink,
            stream.publisher() as publisher,
            stream.relay(slow_sink, variables=through) as cut_off,
        ):
            publish(publisher, [event(number) for number in range(30)])
            wait_until(lambda: slow_sink.server.requests, 20, "the relay has events in hand")
            cable.cut()
            with stream.relay(sink):
                sink.wait_for({f"event {number}" for number in range(30)})
            held.set()
            cable.mend()
            publish(publisher, [event(number) for number in range(30, 60)])
            slow_sink.wait_for({f"event {number}" for number in range(30, 60)}, 40)
            code = cut_off.end()

    assert code == 0
    assert set(slow_sink.counts()) | set(sink.counts()) == {f"event {number}" for number in range(60)}
    ids = {each["message"]: each["id"] for each in sink.events}
    assert all(ids.get(each["message"], each["id"]) == each["id"] for each in slow_sink.events)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_is_lost_in_a_long_storm(tmp_path: Path, spool: Path) -> None:
    """Twelve faults, each chosen at random."""
    faults = [leader_killed, leader_stopped, all_killed]

    def storm_on(storm: Storm, cluster: Cluster) -> None:
        for _ in range(12):
            random.choice(faults)(storm, cluster)
            assert holds(lambda: all(node.is_ready for node in cluster.nodes), 30)
            storm.wait_for_more(200)

    with running_cluster(3) as cluster:
        weather(cluster, tmp_path, spool, storm_on)
