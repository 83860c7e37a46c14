"""How long is waited before sending again."""

from __future__ import annotations

import threading
from time import monotonic

import pytest

from shipper.config.limits import Retry
from shipper.delivery.retry import Persistence
from shipper.errors import RejectedError, RetryableError, UnauthorisedError


def waits(error: RetryableError, retry: Retry, attempts: int = 12) -> list[float]:
    """The waits before each attempt after the first, without waiting for them."""
    told: list[float] = []
    stopping = threading.Event()

    def waiting(_: RetryableError, seconds: float) -> None:
        told.append(seconds)
        if len(told) >= attempts:
            stopping.set()

    def attempt() -> None:
        raise error

    persist = Persistence(retry, stopping, waiting)
    persist._retrying.sleep = lambda seconds: None
    with pytest.raises(RetryableError):
        persist(attempt)
    return told


def test_the_wait_is_drawn_below_a_bound_that_doubles_up_to_the_maximum() -> None:
    retry = Retry(initial=0.5, maximum=4.0)

    runs = [waits(RetryableError("HTTP 503"), retry) for _ in range(100)]

    bounds = [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    assert all(0 <= wait <= bound for run in runs for wait, bound in zip(run, bounds, strict=True))
    highest = [max(run[n] for run in runs) for n in range(len(bounds))]
    lowest = [min(run[n] for run in runs) for n in range(len(bounds))]
    assert all(high > bound * 0.8 for high, bound in zip(highest, bounds, strict=True))
    assert all(low < bound * 0.2 for low, bound in zip(lowest, bounds, strict=True))


def test_a_longer_retry_after_wins() -> None:
    told = waits(RetryableError("HTTP 429", retry_after=7.0), Retry(initial=0.5, maximum=2.0))

    assert set(told) == {7.0}


def test_a_retry_after_is_capped() -> None:
    told = waits(RetryableError("HTTP 429", retry_after=1e9), Retry(initial=0.5, maximum=2.0, max_retry_after=300.0))

    assert set(told) == {300.0}


def test_a_shorter_retry_after_changes_nothing() -> None:
    told = waits(RetryableError("HTTP 503", retry_after=0.0), Retry(initial=64.0, maximum=64.0), attempts=50)

    assert max(told) > 1.0


def test_refused_credentials_wait_their_own_long_time() -> None:
    told = waits(UnauthorisedError("HTTP 401"), Retry(unauthorised=60.0))

    assert set(told) == {60.0}


def test_anything_else_that_is_raised_is_not_tried_again() -> None:
    tried: list[int] = []

    def attempt() -> None:
        tried.append(1)
        raise RejectedError("HTTP 400")

    persist = Persistence(Retry(), threading.Event(), lambda error, seconds: None)
    with pytest.raises(RejectedError):
        persist(attempt)

    assert len(tried) == 1


def test_what_succeeds_in_the_end_gives_its_result_and_the_next_call_starts_afresh() -> None:
    told: list[float] = []
    failures = [RetryableError("a"), RetryableError("b"), None, RetryableError("c"), None]

    def attempt() -> str:
        failure = failures.pop(0)
        if failure is not None:
            raise failure
        return "done"

    persist = Persistence(Retry(initial=0.001, maximum=0.5), threading.Event(), lambda error, wait: told.append(wait))

    assert persist(attempt) == "done"
    assert persist(attempt) == "done"
    assert told[2] <= 0.001


def test_stopping_ends_the_wait_at_once_and_raises_the_last_failure() -> None:
    stopping = threading.Event()
    threading.Timer(0.05, stopping.set).start()

    def attempt() -> None:
        raise UnauthorisedError("HTTP 401")

    began = monotonic()
    with pytest.raises(UnauthorisedError):
        Persistence(Retry(unauthorised=60.0), stopping, lambda error, seconds: None)(attempt)

    assert monotonic() - began < 0.5
