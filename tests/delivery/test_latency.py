"""How long requests take, as a histogram."""

from __future__ import annotations

import pytest

from shipper.delivery.latency import BUCKETS_SECONDS, Latency


def test_a_request_is_counted_in_the_first_bucket_that_holds_it() -> None:
    latency = Latency()

    for seconds in (0.001, 0.005, 0.3, 99.0):
        latency.observe(seconds)

    counts, total = latency.snapshot()
    assert len(counts) == len(BUCKETS_SECONDS) + 1
    assert (counts[0], counts[BUCKETS_SECONDS.index(0.5)], counts[-1], sum(counts)) == (2, 1, 1, 4)
    assert total == pytest.approx(99.306)
