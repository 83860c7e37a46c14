"""Servers for the tests here: a cluster that the tests of a module share, and a stream of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support.nats_servers import Cluster, running_cluster
from ..support.streams import Stream, stream_on


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three servers. A test that stops one of them takes `running_cluster` itself."""
    with running_cluster(3) as found:
        yield found


@pytest.fixture
def stream(cluster: Cluster) -> Iterator[Stream]:
    """A stream that does not exist yet, with names of its own."""
    with stream_on(cluster) as found:
        yield found
