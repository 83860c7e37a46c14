"""The cursor over a durable consumer, without servers."""

from __future__ import annotations

from collections.abc import Sequence

from shipper.event.model import Origin
from shipper.journal.entry import DEAD, DELIVERED, Entry
from shipper.stream.cursor import StreamCursor
from shipper.stream.delivery import Delivery, delivery_of
from shipper.stream.message import messages

from ..support.streams import event

MUCH = 10**9
ORIGIN = Origin("app", "host", "address", "/")


class Consumer:
    """Records which messages are acknowledged and which are given back."""

    def __init__(self) -> None:
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []

    def acknowledge(self, replies: Sequence[str]) -> None:
        self.acknowledged += replies

    def give_back(self, replies: Sequence[str]) -> None:
        self.given_back += replies


def message(number: int, *seqs: int, level: int = 20, reply: str = "") -> Delivery:
    (made,) = messages([event(seq, level=level) for seq in seqs], "s", ORIGIN, max_bytes=MUCH)
    return Delivery(number, reply or f"reply {number}", made.headers, made.content)


def opened(**settings: int) -> tuple[StreamCursor, Consumer]:
    consumer = Consumer()
    return StreamCursor(consumer, **settings), consumer


def seqs(entries: Sequence[Entry]) -> list[int]:
    return [entry.id.seq for entry in entries]


def test_a_message_is_acknowledged_when_all_of_its_events_are_settled() -> None:
    cursor, consumer = opened()
    cursor.offer(message(1, 10, 11))
    first, second = cursor.read(10, MUCH)

    cursor.settle(first, DELIVERED)
    cursor.commit()
    before = list(consumer.acknowledged)
    cursor.settle(second, DEAD)
    cursor.commit()

    assert (before, consumer.acknowledged) == ([], ["reply 1"])
    assert (cursor.settled, cursor.counts) == (2, {"delivered": 1, "dead": 1})


def test_a_message_that_comes_again_while_it_is_in_hand_is_read_once() -> None:
    cursor, consumer = opened()
    cursor.offer(message(1, 10))
    entries = cursor.read(10, MUCH)
    cursor.offer(message(1, 10, reply="newer"))

    again = cursor.read(10, MUCH)
    cursor.settle(entries[0], DELIVERED)
    cursor.commit()

    assert again == []
    assert consumer.acknowledged == ["newer"]


def test_a_message_whose_acknowledgement_was_lost_is_acknowledged_again() -> None:
    cursor, consumer = opened()
    cursor.offer(message(1, 10))
    cursor.settle(cursor.read(10, MUCH)[0], DELIVERED)
    cursor.commit()

    cursor.offer(message(1, 10, reply="again"))

    assert cursor.read(10, MUCH) == []
    assert consumer.acknowledged == ["reply 1", "again"]


def test_events_below_the_level_settle_without_being_read() -> None:
    cursor, consumer = opened(level=30)
    cursor.offer(message(1, 10, 11))

    assert cursor.read(10, MUCH) == []
    cursor.commit()

    assert (cursor.counts, consumer.acknowledged) == ({"filtered": 2}, ["reply 1"])


def test_a_batch_ends_inside_a_message_and_goes_on_there() -> None:
    cursor, _ = opened()
    cursor.offer(message(1, 10, 11, 12))
    cursor.offer(message(2, 20))

    assert [seqs(cursor.read(2, MUCH)), seqs(cursor.read(9, MUCH)), seqs(cursor.read(9, MUCH))] == [
        [10, 11],
        [12, 20],
        [],
    ]


def test_no_more_messages_are_asked_for_than_fit() -> None:
    cursor, _ = opened(limit=2)
    rooms = [cursor.room]
    for number in (1, 2):
        cursor.offer(message(number, number))
        rooms.append(cursor.room)

    assert rooms == [2, 1, 0]


def test_what_is_in_hand_at_the_end_is_given_back() -> None:
    cursor, consumer = opened()
    cursor.offer(message(1, 10))
    cursor.offer(message(2, 20))
    cursor.settle(cursor.read(1, MUCH)[0], DELIVERED)
    cursor.commit()

    cursor.close()
    cursor.close()

    cursor.offer(message(3, 30))

    assert (consumer.acknowledged, consumer.given_back) == (["reply 1"], ["reply 2", "reply 3"])
    assert cursor.room == 0


def test_the_position_is_the_oldest_message_in_hand() -> None:
    cursor, _ = opened()
    cursor.offer(message(5, 1))
    cursor.offer(message(8, 2))
    positions = [cursor.position.segment]
    for entry in cursor.read(10, MUCH):
        cursor.settle(entry, DELIVERED)
        cursor.commit()
        positions.append(cursor.position.segment)

    assert positions == [5, 8, 9]


def test_reply_subjects_of_both_forms_are_understood() -> None:
    short = delivery_of("$JS.ACK.S.c.2.17.9.1700000000.4", {}, b"")
    long = delivery_of("$JS.ACK.hub.account.S.c.2.17.9.1700000000.4.random", {}, b"")

    assert short is not None
    assert (short.number, short.times, short.pending) == (17, 2, 4)
    assert long is not None
    assert (long.number, long.times, long.pending) == (17, 2, 4)
    assert delivery_of("_INBOX.x", {}, b"") is None
