"""Messages of the stream: what goes in comes out, under the same ids."""

from __future__ import annotations

import dataclasses

import hypothesis
import hypothesis.strategies as some

from shipper.event.codec import unpack
from shipper.event.model import Event, EventId, Origin
from shipper.journal.entry import Entry
from shipper.stream.message import entries, messages, subject_of

from ..support.streams import event

ORIGIN = Origin("orders", "web1", "10.0.0.7", "/srv/orders", (12.5, 40.1))
LARGE = 100_000  # repetitions of a text, so that its event takes many frames


def received(found: Entry) -> Event:
    assert found.payload is not None
    return unpack(found.payload, found.id)


@hypothesis.given(
    some.lists(some.tuples(some.integers(0, 60), some.text(max_size=20), some.booleans()), min_size=1, max_size=8),
    some.integers(1, 300_000),
)
def test_events_come_out_of_messages_as_they_went_in(made: list[tuple[int, str, bool]], limit: int) -> None:
    events = [
        event(number, (text or "x") * (LARGE if is_large else 1), level=level)
        for number, (level, text, is_large) in enumerate(made)
    ]
    events = [each for each in events if len(each.message.encode("utf-8", "surrogatepass")) < 250_000]

    sent = list(messages(events, "s", ORIGIN, max_bytes=limit))
    found = [entry for number, one in enumerate(sent) for entry in entries(one.content, one.headers, number)]

    assert [received(entry) for entry in found] == events
    assert [entry.level for entry in found] == [each.level for each in events]
    assert [place for one in sent for place in one.places] == list(range(len(events)))


@hypothesis.given(some.builds(Origin, *[some.text(some.characters(), max_size=12)] * 4))
def test_an_origin_of_any_characters_travels_in_headers(origin: Origin) -> None:
    whole = dataclasses.replace(origin, app=origin.app or "app")
    (sent,) = messages([event(1)], "s", whole, max_bytes=1000)

    (found,) = entries(sent.content, sent.headers, 1)

    assert all(value.isascii() and value.isprintable() for value in sent.headers.values())
    readable = [text.encode("utf-8", "replace").decode() for text in dataclasses.astuple(whole)[:4]]
    is_text = all(letter < "\ud800" or letter > "\udfff" for text in dataclasses.astuple(whole)[:4] for letter in text)
    assert found.origin is not None
    assert not is_text or list(dataclasses.astuple(found.origin)[:4]) == readable


def test_the_load_of_the_machine_travels_along() -> None:
    (sent,) = messages([event(1)], "s", ORIGIN, max_bytes=1000)

    (found,) = entries(sent.content, sent.headers, 1)

    assert found.origin == ORIGIN
    assert found.origin.load == (12.5, 40.1)


def test_the_same_events_make_the_same_message_id_and_others_another_one() -> None:
    ids = [
        next(messages(events, "s", ORIGIN, max_bytes=1000)).headers["Nats-Msg-Id"]
        for events in ([event(1), event(2)], [event(1), event(2)], [event(1)], [event(12)])
    ]

    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_subject_has_app_host_and_highest_level_as_tokens_of_their_own() -> None:
    odd = dataclasses.replace(ORIGIN, app="my.app *>", host="web 1")

    assert subject_of("shipper", ORIGIN, 35) == "shipper.orders.web1.30"
    assert subject_of("shipper", odd, 99) == "shipper.my%2Eapp%20%2A%3E.web%201.50"


def test_bytes_that_are_no_frame_become_an_entry_that_nobody_can_decode() -> None:
    (sent,) = messages([event(1)], "s", ORIGIN, max_bytes=1000)

    found = entries(b"of a stranger" + sent.content, {}, 7)

    assert next(entry.id for entry in found) == EventId(b"tokentok", 1)
    assert found[1].payload == b"of a stranger"
    assert found[1].origin is None


def test_an_event_without_its_last_frames_counts_as_incomplete() -> None:
    (sent,) = messages([event(1, "x" * 20_000)], "s", ORIGIN, max_bytes=1000)

    (found,) = entries(sent.content[:8192], sent.headers, 1)

    assert found.outcome == "incomplete"
