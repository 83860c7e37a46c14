"""What the machine is and how busy it is."""

from __future__ import annotations

import ipaddress
import socket

from shipper.process.system.host import MAX_SAMPLES, LoadSampler, host_address, host_name
from shipper.process.system.load_samples import MAX_DISTANCE_SECONDS


def test_an_event_gets_the_sample_nearest_to_its_time() -> None:
    load = LoadSampler()
    load.samples = ([100.0, 101.0, 102.0], [(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)])

    assert load(100.4) == (1.0, 10.0)
    assert load(100.6) == (2.0, 20.0)
    assert load(101.0) == (2.0, 20.0)
    assert load(50.0 + 100.0 - MAX_DISTANCE_SECONDS * 9.6) == (3.0, 30.0)


def test_an_event_without_a_sample_near_it_gets_none() -> None:
    load = LoadSampler()
    assert load(100.0) is None

    load.sample(100.0)

    assert load(100.0 + MAX_DISTANCE_SECONDS) is not None
    assert load(100.0 - MAX_DISTANCE_SECONDS) is not None
    assert load(100.1 + MAX_DISTANCE_SECONDS) is None
    assert load(99.9 - MAX_DISTANCE_SECONDS) is None


def test_samples_are_percentages_and_only_the_last_ones_are_kept() -> None:
    load = LoadSampler()

    for second in range(MAX_SAMPLES + 10):
        load.sample(float(second))

    assert load(0.0) is None
    found = load(float(MAX_SAMPLES))
    assert found is not None
    assert all(isinstance(value, float) and 0 <= value <= 100 for value in found)
    assert load.latest is not None
    assert load.latest[0] == float(MAX_SAMPLES + 9)


def test_the_host_has_a_name_and_an_host_address() -> None:
    assert host_name()
    assert isinstance(ipaddress.ip_address(host_address()), ipaddress.IPv4Address)
    assert socket.inet_aton(host_address())
