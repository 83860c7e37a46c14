"""When a draining process ends."""

from __future__ import annotations

from shipper.process.drain import Drain


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_without_progress_the_process_has_its_grace() -> None:
    clock = Clock()
    drain = Drain(30.0, clock=clock)
    drain.update(True, settled=5)

    clock.now += 29.9
    drain.update(True, settled=5)
    assert not drain.is_out_of_time

    clock.now += 0.2
    drain.update(True, settled=5)
    assert drain.is_out_of_time


def test_every_settled_event_restarts_the_grace() -> None:
    clock = Clock()
    drain = Drain(30.0, clock=clock)
    drain.update(True, settled=5)

    for settled in range(6, 12):
        clock.now += 20.0
        drain.update(True, settled=settled)
        assert not drain.is_out_of_time


def test_a_new_writer_ends_the_drain_and_the_next_one_has_the_whole_grace() -> None:
    clock = Clock()
    drain = Drain(30.0, clock=clock)
    drain.update(True, settled=5)
    clock.now += 20.0
    drain.update(False, settled=5)

    clock.now += 20.0
    drain.update(True, settled=5)

    assert not drain.is_out_of_time


def test_a_grace_of_zero_ends_the_process_at_once() -> None:
    drain = Drain(0.0, clock=Clock())

    drain.update(True, settled=0)

    assert drain.is_out_of_time
