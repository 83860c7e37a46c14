"""The main thread sleeps until another thread, a signal handler or a descriptor wakes it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from shipper.process.waker import Waker

PATIENCE = 60.0  # seconds: a wait with this timeout has to end earlier, because it is woken


@pytest.fixture
def waker() -> Iterator[Waker]:
    made = Waker()
    yield made
    made.close()


def test_a_wake_before_the_wait_is_not_lost(waker: Waker) -> None:
    waker.wake()

    waker.wait(PATIENCE)

    assert waker.was_woken


def test_many_wakes_end_one_wait(waker: Waker) -> None:
    for _ in range(10_000):
        waker.wake()
    waker.wait(PATIENCE)

    waker.wait(0.0)

    assert not waker.was_woken


def test_another_thread_ends_a_wait(waker: Waker) -> None:
    threading.Timer(0.05, waker.wake).start()
    began = monotonic()

    waker.wait(PATIENCE)

    assert waker.was_woken
    assert monotonic() - began < PATIENCE / 2


def test_a_signal_handler_ends_a_wait(waker: Waker) -> None:
    before = signal.signal(signal.SIGUSR2, lambda number, frame: waker.wake())
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        waker.wait(PATIENCE)
    finally:
        signal.signal(signal.SIGUSR2, before)

    assert waker.was_woken


def test_input_on_a_descriptor_ends_a_wait_and_is_returned(waker: Waker) -> None:
    reading, writing = os.pipe()
    try:
        assert waker.wait(0.0, reading, -1) == {}
        os.write(writing, b"x")

        found = waker.wait(PATIENCE, reading, -1)
    finally:
        os.close(reading)
        os.close(writing)

    assert list(found) == [reading]
    assert not waker.was_woken
