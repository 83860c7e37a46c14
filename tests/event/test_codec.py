"""Event ↔ bytes: what was packed is unpacked, and any other bytes are undecodable."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.application.capture.record import from_record
from shipper.errors import UndecodableError
from shipper.event.codec import ORIGINAL_ID, sanitize_event, unpack
from shipper.event.model import MAX_EVENT, Event, EventId
from shipper.event.truncate import pack

from ..support.oddities import a_record, caught


def test_nan_stays_a_number() -> None:
    assert math.isnan(unpack(pack(from_record(a_record("hi", n=math.nan)))).extra["n"])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_undecodable(payload: bytes) -> None:
    with pytest.raises(UndecodableError):
        unpack(payload)


WIRE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(place=st.integers(0, 20), value=WIRE)
def test_a_field_of_another_type_is_undecodable_and_nothing_else(place: int, value: Any) -> None:
    values = msgpack.unpackb(pack(from_record(a_record("hi", exc_info=caught(lambda: 1 / 0), extra={"a": [1]}))))
    values[place] = value

    try:
        event = unpack(msgpack.packb(values))
    except UndecodableError:
        return

    assert unpack(pack(event)).logger == event.logger


@given(st.data())
def test_a_damaged_payload_is_an_event_or_undecodable(data: st.DataObject) -> None:
    payload = bytearray(pack(from_record(a_record("hi", exc_info=caught(lambda: 1 / 0), a={"b": [1]}))))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))

    try:
        event = unpack(bytes(payload))
    except UndecodableError:
        return

    assert len(pack(event)) <= MAX_EVENT


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
        b"\xdf\xff\xff\xff\xff" * 5,
        b"\x91" * 100_000,
        b"\x91\x02",
        msgpack.packb([2] + [None] * 20),
        msgpack.packb([1] + [None] * 20),
        msgpack.packb([True]),
        msgpack.packb({"version": 1}),
        pack(Event()) + b"\x00",
        pack(Event())[:-1],
        b"x" * (MAX_EVENT + 1),
    ],
    ids=range(12),
)
def test_hostile_bytes_are_undecodable(payload: bytes) -> None:
    with pytest.raises(UndecodableError):
        unpack(payload)


@pytest.mark.parametrize(
    "value", [{"a": msgpack.ExtType(5, b"x")}, {b"a": 1}, {"a": {b"b": 1}}, {"a": [[[[[[[[[[[[[1]]]]]]]]]]]]]}]
)
def test_what_pack_would_not_write_is_undecodable(value: object) -> None:
    values = msgpack.unpackb(pack(Event()))
    values[18] = value

    with pytest.raises(UndecodableError):
        unpack(msgpack.packb(values))


def test_a_later_version_is_undecodable() -> None:
    values = msgpack.unpackb(pack(Event()))

    with pytest.raises(UndecodableError, match="schema version"):
        unpack(msgpack.packb([values[0] + 1, *values[1:]]))


def test_the_id_does_not_travel_inside() -> None:
    name = EventId(b"12345678", 9)
    event = Event(message="hi", route=("a", "b"), id=EventId(b"00000000", 1))

    assert unpack(pack(event), name) == dataclasses.replace(event, id=name)
    assert unpack(pack(event)).id is None


def test_an_event_that_has_travelled_before_keeps_its_first_id() -> None:
    first, second = EventId(b"12345678", 9), EventId(b"00000000", 1)
    event = Event(message="hi", data={ORIGINAL_ID: str(first), "user": "jill"})

    found = unpack(pack(event), second)

    assert (found.id, found.data) == (first, {"user": "jill"})


@pytest.mark.parametrize("text", ["", "x", "12-", "zz34567812345678-1", f"{'0' * 16}-{1 << 64}", 7, None])
def test_an_original_id_that_is_none_is_passed_over(text: object) -> None:
    name = EventId(b"00000000", 1)

    assert unpack(pack(Event(data={ORIGINAL_ID: text})), name).id == name


def test_sanitize_event_makes_an_event_plain_in_place() -> None:
    event = Event(message="hi", extra={"tags": {"a"}}, id=EventId(b"12345678", 1))
    tidy = Event(extra={"tags": ["a"]})
    tags = tidy.extra["tags"]

    sanitize_event(event)
    sanitize_event(tidy)

    assert (event.extra, event.message) == ({"tags": ["a"]}, "hi")
    assert event.id == EventId(b"12345678", 1)
    assert tidy.extra["tags"] is tags
