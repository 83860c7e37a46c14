"""How long delivery waits before it sends again."""

from __future__ import annotations

from shipper.config.limits import Retry
from shipper.delivery.retry import Retrier
from shipper.errors import RetryableError, UnauthorisedError


def waits(error: RetryableError, retry: Retry, attempts: int = 12) -> list[float]:
    """Return the seconds to wait after each of ``attempts`` failures in a row."""
    retrier = Retrier(retry)
    return [retrier.seconds_after(error) for _ in range(attempts)]


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
    found = waits(RetryableError("HTTP 429", retry_after=7.0), Retry(initial=0.5, maximum=2.0))

    assert set(found) == {7.0}


def test_a_retry_after_is_capped() -> None:
    found = waits(RetryableError("HTTP 429", retry_after=1e9), Retry(initial=0.5, maximum=2.0, max_retry_after=300.0))

    assert set(found) == {300.0}


def test_a_shorter_retry_after_changes_nothing() -> None:
    found = waits(RetryableError("HTTP 503", retry_after=0.0), Retry(initial=64.0, maximum=64.0), attempts=50)

    assert max(found) > 1.0


def test_refused_credentials_wait_their_own_long_time() -> None:
    found = waits(UnauthorisedError("HTTP 401"), Retry(unauthorised=60.0))

    assert set(found) == {60.0}


def test_refused_credentials_wait_for_a_longer_retry_after() -> None:
    found = waits(UnauthorisedError("HTTP 401", retry_after=90.0), Retry(unauthorised=60.0))

    assert set(found) == {90.0}


def test_after_a_success_the_wait_is_short_again() -> None:
    retrier = Retrier(Retry(initial=0.001, maximum=64.0))
    for _ in range(30):
        retrier.seconds_after(RetryableError("HTTP 503"))

    retrier.succeeded()

    assert retrier.seconds_after(RetryableError("HTTP 503")) <= 0.001


def test_any_number_of_failures_in_a_row_has_a_wait() -> None:
    found = waits(RetryableError("HTTP 503"), Retry(initial=0.5, maximum=4.0), attempts=3000)

    assert max(found) <= 4.0
