"""The connection to the servers: what a server that does not answer costs."""

from __future__ import annotations

import psutil
import pytest

from shipper.errors import RetryableError
from shipper.stream import connection

from ..support.nats_servers import Node, running_cluster
from ..support.streams import stream_on
from ..support.waiting import wait_until


def test_a_server_that_takes_connections_and_does_not_answer_costs_one_at_most(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The system accepts connections to a process that is stopped."""
    for name, seconds in (("CONNECT_SECONDS", 0.5), ("PROBE_SECONDS", 0.1), ("RETRY_SECONDS", 0.1)):
        monkeypatch.setattr(connection, name, seconds)
    caplog.set_level("INFO", "shipper.process")

    with running_cluster(1) as cluster, stream_on(cluster) as stream:
        node = cluster.nodes[0]
        stream.make()
        node.stop()
        caplog.clear()
        with pytest.raises(RetryableError):
            stream.client.request("$JS.API.INFO", timeout=0.1)
        wait_until(lambda: len(caplog.records) >= 5, message="it is tried again and again")
        sockets = _connections_to(node)
        node.go_on()
        wait_until(lambda: stream.client.is_up, message="the connection is back")

    assert len(sockets) <= 1


def _connections_to(node: Node) -> list[object]:
    return [each for each in psutil.Process().net_connections("tcp4") if each.raddr and each.raddr.port == node.port]
