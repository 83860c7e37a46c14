"""A part of the journal that a cursor lent to an encoder: its requests, and how the cursor counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from shipper.config.limits import Batching
from shipper.delivery.dead.writer import DeadLetters
from shipper.delivery.deliverer import Deliverer
from shipper.delivery.lending.lending import Lending, PartEndedError
from shipper.delivery.lending.part import PartReader, Request
from shipper.errors import DeliveryError
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.cursors.cursor import Cursor
from shipper.journal.segments import Position, bytes_between
from shipper.transport import frame

from ..support.journals import TOKEN, frames, segment


def pieces(seq: int, *, size: int = 0) -> list[bytes]:
    return frames(pack(Event(message=f"event {seq}", level=40, extra={"x": "x" * size})), seq, level=40)


def reader(folder: Path, *, most_events: int = 2) -> PartReader:
    return PartReader(
        str(folder),
        lambda events: ({}, b" ".join(str(event.id).encode() for event in events)),
        name="b",
        level=0,
        takes_all=True,
        most_events=most_events,
        max_bytes=10**6,
    )


def cursor(folder: Path) -> Cursor:
    made = Cursor(str(folder / "cursor.json"), str(folder))
    made.count_from(0)
    return made


def test_an_event_of_an_impossible_size_is_counted_with_its_level(tmp_path: Path) -> None:
    impossible = frame.single(b"x" * 50, 0, 40, 0, 60_000, TOKEN, 3, 1)
    segment(tmp_path, 1, b"".join([*pieces(1), *pieces(2), impossible, *pieces(4)]))
    lending = cursor(tmp_path)
    part = lending.lend(1)
    assert part is not None

    for request in reader(tmp_path, most_events=10).read(*part):
        assert lending.pass_lent(request.start, request.end, request.counts)
    lending.take_back()
    for entry in lending.read(10, 10**6):
        lending.settle(entry, "delivered")
    lending.commit()

    assert lending.counts == {"delivered": 3, "incomplete": 1}
    assert lending.dropped == {"incomplete": {"ERROR": 1}}
    lending.close()


def test_nothing_is_lent_behind_the_beginning_of_an_express_lane(tmp_path: Path) -> None:
    for number in range(1, 6):
        events = range(number * 100, number * 100 + 50)
        segment(tmp_path, number, b"".join(piece for seq in events for piece in pieces(seq)))
    lending = cursor(tmp_path)
    lending._lanes.begin_express(40)
    span = lending._lanes.span
    assert span is not None
    lending._lanes._lane.express = span._replace(start=Position(2, 0))
    while lending.position_read < Position(3, 0):
        for entry in lending.read(10, 10**6):
            lending.settle(entry, "delivered")
        lending.commit()

    assert not lending.has_to_lend(1)
    assert lending.lend(1) is None
    lending.close()


class Backend:
    """Takes two events a request."""

    name, level, max_events, max_in_flight = "b", 0, 2, 1

    def __init__(self) -> None:
        self.got: Counter[int] = Counter()

    def send(self, events: Sequence[Event]) -> list[DeliveryError | None]:
        for event in events:
            assert event.id is not None
            self.got[event.id.seq] += 1
        return [None] * len(events)


class InHere:
    """A stand-in for the encoder process: reads the lent part in this process."""

    def __init__(self, folder: Path) -> None:
        self._reader = reader(folder)

    def lend(self, start: Position, end: Position) -> None:
        self._requests = self._reader.read(start, end)

    def next(self, seconds: float) -> Request:
        request = next(self._requests, None)
        if request is None:
            raise PartEndedError
        return request


@pytest.mark.parametrize("is_interleaved", [True, False], ids=["interleaved", "one after the other"])
def test_of_a_request_that_the_quota_cut_off_nothing_is_sent_again(tmp_path: Path, is_interleaved: bool) -> None:
    """Interleaved, the last frame of an accepted event comes after the first frame of the next event."""
    (a, b), (c, d) = pieces(100, size=5000), pieces(101, size=5000)
    segment(tmp_path, 1, b"".join(piece for seq in range(1, 10) for piece in pieces(seq)))
    large = [a, c, b, d] if is_interleaved else [a, b, c, d]
    segment(tmp_path, 2, b"".join([*large, *(piece for seq in range(102, 120) for piece in pieces(seq))]))
    backend = Backend()

    def send(headers: object, body: bytes) -> DeliveryError | None:
        numbers = [int(name.rpartition(b"-")[2]) for name in body.split()]
        backend.got.update(numbers)
        if 100 in numbers and 9 in numbers:
            deliverer.give_up_before(2)
        return None

    lending = Lending(send, lambda: True, least_bytes=1)
    lending.borrower = InHere(tmp_path)
    reading = cursor(tmp_path)
    dead = DeadLetters(str(tmp_path), "b", limit=10**6)
    batching = Batching(max_events=2, max_age=0.0)
    deliverer = Deliverer(reading, backend, dead, batching=batching, lending=lending)
    deliverer.set_drain_mode(True, final_to=None)
    for _ in range(200):
        deliverer.wake.set()
        deliverer.deliver_once()

    assert lending.sent > 0
    assert set(backend.got.values()) == {1}
    assert reading.counts == {"delivered": 28, "quota": 1}
    deliverer.stop()
    deliverer.run()


def test_bytes_between_two_places_are_those_of_all_segments_between(tmp_path: Path) -> None:
    for number in (1, 2, 4):
        segment(tmp_path, number, b"x" * 100)

    assert bytes_between(str(tmp_path), Position(1, 30), Position(1, 50)) == 20
    assert bytes_between(str(tmp_path), Position(1, 30), Position(4, 50)) == 220


def test_the_ids_of_a_request_are_those_of_its_frames(tmp_path: Path) -> None:
    segment(tmp_path, 1, b"".join([*pieces(7), *pieces(8)]))

    (request,) = reader(tmp_path).read(Position(1, 0), Position(2, 0))

    assert request.body.decode() == " ".join(f"{TOKEN.hex()}-{seq}" for seq in (7, 8))
