"""Event ↔ bytes: nothing that is put into an event raises, and nothing is cut without saying how much."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import time
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.application.record import from_record
from shipper.errors import UndecodableError
from shipper.event.codec import sanitize_event, unpack
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import MAX_EVENT, Event, EventId
from shipper.event.truncate import cut, pack

from ..support.oddities import LEFT_OUT, VALUES, Size, a_record, caught, fails


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


@pytest.mark.parametrize(
    "event",
    [
        Event(message="x" * 2**20, stack="ü" * 2**19, extra={"note": "short"}),
        Event(message="€" * 200_000, extra={"a": "b" * 50_000}),
        Event(extra={str(n): "x" * 2000 for n in range(180)}),
        Event(extra={"blob": b"x" * 2**20}),
        Event(extra={"\u20ac" * 2**18: 1}),
        Event(data={"\u20ac" * 2**18: 1}, kind="k" * 2**20, route=("r" * 2**20,)),
        Event(context={"numbers": [1.5] * 35_000}, data={"numbers": [1.5] * 35_000}),
        Event(logger="l" * 2**20, thread="t" * 2**20, task="t" * 2**20, path="p" * 2**20),
        Event(exceptions=[ExceptionInfo("raised", "a.B", "B", "", [Frame("f" * 900, 1, "g" * 900)] * 100)] * 20),
        Event(exceptions=[ExceptionInfo("raised", "a.B", "B", "m" * 2**18, [], ["n" * 999] * 1000)] * 20),
    ],
)
@pytest.mark.parametrize("most", [MAX_EVENT, 20_000, 5000])
def test_a_long_event_is_cut_to_size(event: Event, most: int) -> None:
    shorter = cut(event, most)

    assert len(pack(event)) <= MAX_EVENT
    assert len(pack(shorter)) <= (most if event.route is None else MAX_EVENT)
    assert "left out" in repr(shorter) or most == MAX_EVENT
    assert unpack(pack(shorter)) == shorter


def test_the_longest_text_is_cut_first() -> None:
    event = Event(message="m" * 1000, stack="s" * 300_000, extra={"a": "a" * 200_000, "b": "b" * 3000})

    shorter = unpack(pack(event))

    assert shorter.message == event.message
    assert shorter.extra["b"] == event.extra["b"]
    assert shorter.stack is not None
    for text, size in ((shorter.stack, 300_000), (shorter.extra["a"], 200_000)):
        marker = LEFT_OUT.search(text)
        assert marker
        assert marker.start() + int(marker[1]) == size
    assert MAX_EVENT - 100 < len(pack(event)) <= MAX_EVENT


def test_a_text_that_is_cut_twice_counts_all_that_is_missing() -> None:
    twice = cut(cut(Event(message="x" * 100_000), 50_000), 10_000)

    marker = LEFT_OUT.search(twice.message)
    assert marker
    assert marker.start() + int(marker[1]) == 100_000


def test_a_short_event_is_not_cut() -> None:
    event = from_record(a_record("hi", a=1, exc_info=caught(lambda: 1 / 0)))

    assert cut(event, 5000) == event


def test_cut_leaves_the_event_and_its_id_alone() -> None:
    event = Event(message="x" * 1000, extra={"a": {"b": "y" * 1000}}, id=EventId(b"12345678", 1))

    shorter = cut(event, 800)

    assert len(event.extra["a"]["b"]) == len(event.message) == 1000
    assert shorter.id == event.id


def test_as_little_as_an_event_can_have_is_the_end_of_cutting() -> None:
    event = Event(message="x" * 1000, extra={"a": 1}, exceptions=[ExceptionInfo("raised", "a.B", "B", "m")] * 3)

    least = cut(event, 10)

    assert len(pack(least)) < 500
    assert least.extra == {"[...]": "[... 1 items left out ...]"}
    assert least.exceptions[0].notes == ["[... 2 exceptions left out ...]"]


def test_what_a_user_puts_into_an_event_is_made_plain() -> None:
    event = from_record(a_record("hi"))
    event.extra["tags"] = {"a"}
    event.extra["by number"] = {1: object}
    event.message = 5  # type: ignore[assignment]
    event.time = math.nan
    event.level = Size.LARGE
    event.route = ["a", 5]  # type: ignore[assignment]
    event.exceptions = [ValueError("bad")]  # type: ignore[list-item]

    found = unpack(pack(event))

    assert found.extra == {"tags": ["a"], "by number": {"1": "<class 'object'>"}}
    assert (found.message, found.level, found.route) == ("5", 3, ("a", "5"))
    assert found.exceptions[0].name == "ValueError"
    assert abs(found.time - time.time()) < 60


def test_an_exception_whose_parent_a_user_took_out_is_still_packed() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, KeyError("third")
    event = from_record(a_record("hi", exc_info=first))
    del event.exceptions[0]

    assert [one.parent for one in unpack(pack(event)).exceptions] == [0, 0]


def test_sanitize_event_makes_an_event_plain_in_place() -> None:
    event = Event(message="hi", extra={"tags": {"a"}}, id=EventId(b"12345678", 1))
    tidy = Event(extra={"tags": ["a"]})
    tags = tidy.extra["tags"]

    sanitize_event(event)
    sanitize_event(tidy)

    assert (event.extra, event.message) == ({"tags": ["a"]}, "hi")
    assert event.id == EventId(b"12345678", 1)
    assert tidy.extra["tags"] is tags


def test_a_misspelt_attribute_of_an_event_is_an_error() -> None:
    event = Event()

    with pytest.raises(AttributeError, match="mesage"):
        event.mesage = "hi"  # type: ignore[attr-defined]


def test_an_event_is_equal_to_its_copies_and_pickles() -> None:
    event = from_record(a_record("hi", a=[1], exc_info=caught(lambda: 1 / 0)))

    assert pickle.loads(pickle.dumps(event)) == copy.deepcopy(event) == event
    assert dataclasses.replace(event, message="other") != event


def test_a_class_derived_from_event_may_have_attributes_of_its_own() -> None:
    class Audited(Event):
        pass

    event = Audited(message="hi")
    event.auditor = "bob"  # type: ignore[attr-defined]

    assert unpack(pack(event)).message == "hi"


FIELDS = st.sampled_from([field.name for field in dataclasses.fields(Event) if field.name != "id"])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(FIELDS, VALUES, max_size=5))
def test_whatever_a_user_makes_of_an_event_is_packed(changes: dict[str, Any]) -> None:
    event = from_record(a_record("hi", exc_info=caught(lambda: 1 / 0), a=1))
    for name, value in changes.items():
        setattr(event, name, value)

    payload = pack(event)

    assert len(payload) <= MAX_EVENT
    assert unpack(payload).pid == event.pid or "pid" in changes


PARTS = st.sampled_from([field.name for field in dataclasses.fields(ExceptionInfo)])


@given(changes=st.dictionaries(PARTS, VALUES, min_size=1, max_size=3))
def test_whatever_a_user_makes_of_an_exception_is_packed(changes: dict[str, Any]) -> None:
    event = from_record(a_record("hi", exc_info=caught(fails(ValueError("a")), lambda: 1 / 0)))
    for name, value in changes.items():
        setattr(event.exceptions[1], name, value)

    assert len(unpack(pack(event)).exceptions) == 2
