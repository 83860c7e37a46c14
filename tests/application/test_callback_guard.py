"""The circuit breaker for functions of the application: a slow one is not called for a while."""

from __future__ import annotations

import contextlib
import queue
import threading

import pytest

from shipper.application.capture.callback_guard import CallbackGuard, CircuitOpen

from ..support.waiting import PATIENCE


class Clock:
    """A fake clock, and a function that moves it on by the seconds that it is called with."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.said: list[tuple[float, float]] = []
        self.calls = 0

    def __call__(self) -> float:
        return self.now

    def take(self, seconds: float) -> float:
        self.calls += 1
        self.now += seconds
        return seconds

    def note(self, took: float, rest: float) -> None:
        self.said.append((took, rest))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> CallbackGuard[[float], float]:
    return CallbackGuard(clock.take, clock.note, clock=clock)


def test_one_slow_call_alone_changes_nothing(guard: CallbackGuard[[float], float], clock: Clock) -> None:
    """As when the process was stopped or swapped out during the call."""
    assert [guard(seconds) for seconds in (0.1, 30.0, 0.9, 30.0, 0.1)] == [0.1, 30.0, 0.9, 30.0, 0.1]
    assert clock.said == []


@pytest.mark.parametrize(("took", "rest"), [(1.0, 10.0), (2.5, 25.0), (10.0, 60.0), (500.0, 60.0)])
def test_after_two_slow_calls_in_a_row_it_rests_ten_times_as_long(
    guard: CallbackGuard[[float], float], clock: Clock, took: float, rest: float
) -> None:
    guard(took)
    guard(took)

    assert clock.said == [(took, rest)]
    clock.now += rest - 0.001
    with pytest.raises(CircuitOpen):
        guard(0.0)
    clock.now += 0.001
    assert guard(0.0) == 0.0
    assert clock.calls == 3


def test_one_slow_call_closes_it_again_and_a_quick_one_opens_it(
    guard: CallbackGuard[[float], float], clock: Clock
) -> None:
    guard(1.0)
    guard(1.0)
    clock.now += 10.0
    guard(3.0)

    with pytest.raises(CircuitOpen):
        guard(0.0)
    clock.now += 30.0
    guard(0.5)
    assert guard(5.0) == 5.0
    assert guard(0.5) == 0.5
    assert clock.said == [(1.0, 10.0), (3.0, 30.0)]


def test_while_one_call_tries_again_nobody_else_waits(clock: Clock) -> None:
    outcome: list[object] = []

    def function(seconds: float) -> None:
        if clock.calls == 2:
            with pytest.raises(CircuitOpen):
                guard(0.0)
            outcome.append("refused")
        clock.take(seconds)

    guard = CallbackGuard(function, clock.note, clock=clock)
    guard(1.0)
    guard(1.0)
    clock.now += 10.0

    guard(0.0)

    assert outcome == ["refused"]


def test_calls_that_were_slow_at_the_same_time_are_one(clock: Clock) -> None:
    """The nested calls stand for threads that were all in the guard when the process was stopped."""

    def function(depth: int) -> None:
        clock.take(1.0)
        if depth:
            guard(depth - 1)

    guard = CallbackGuard(function, clock.note, clock=clock)
    guard(5)

    assert clock.said == []
    guard(0)
    assert clock.said == [(1.0, 10.0)]


def test_what_a_slow_call_raises_is_raised_and_counts_as_slow(clock: Clock) -> None:
    def function() -> None:
        clock.take(2.0)
        raise LookupError("no")

    guard = CallbackGuard(function, clock.note, clock=clock)

    for _ in range(2):
        with pytest.raises(LookupError):
            guard()
    with pytest.raises(CircuitOpen):
        guard()


def test_threads_that_all_wait_in_it_close_it(clock: Clock) -> None:
    """Also when each call begins while another one is still under way."""
    turns = [threading.Semaphore(0) for _ in range(2)]
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()

    def function(number: int) -> None:
        heard.put("called")
        assert turns[number].acquire(timeout=PATIENCE)

    guard = CallbackGuard(function, clock.note, clock=clock)

    def call(number: int) -> None:
        with contextlib.suppress(CircuitOpen):
            while True:
                guard(number)
        heard.put("resting")

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    outcomes = [heard.get(timeout=PATIENCE) for _ in threads]
    for number in (0, 1, 0, 1):
        clock.now += 1.5
        turns[number].release()
        outcomes.append(heard.get(timeout=PATIENCE))
    for thread in threads:
        thread.join(PATIENCE)

    assert outcomes == ["called"] * 4 + ["resting"] * 2
    assert clock.said == [(3.0, 30.0)]
