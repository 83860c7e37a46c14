"""What the threads of a backend's requests share, with a GIL and without."""

from __future__ import annotations

from shipper.delivery.blame.refusals import Refusals
from shipper.delivery.concurrency import MIN_SAMPLES, Concurrency
from shipper.event.model import EventId
from shipper.journal.entry import Entry
from shipper.journal.segments import Position

from ..support.threads import THREADS, in_threads

ANSWERS = 500  # to each thread


def test_answers_that_come_at_the_same_moment_all_count() -> None:
    concurrency = Concurrency(32)

    def answer(which: int) -> None:
        for _ in range(ANSWERS):
            concurrency.answered(0.01)

    in_threads(answer)

    assert THREADS * ANSWERS > MIN_SAMPLES
    assert concurrency.size == 32


def test_events_that_are_accepted_at_the_same_moment_all_count() -> None:
    refusals = Refusals()

    def accept(which: int) -> None:
        for number in range(ANSWERS):
            refusals.note_accepted(Entry(Position(1, 0), EventId(b"%08d" % which, number), 20, 1, b""))

    in_threads(accept)

    assert refusals.accepted == THREADS * ANSWERS
