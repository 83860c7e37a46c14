"""Any value becomes plain data: copied, bounded, and with a marker for what was left out."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import pathlib
import types
import uuid
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.application.capture.record import from_record
from shipper.event.model import MAX_EVENT
from shipper.event.sanitize import MAX_DEPTH, MAX_ITEMS, is_flat, is_plain, sanitize

from ..support.oddities import VALUES, Account, Colour, Mood, Point, Size, Unspeakable, a_record


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("a\ud800b", "a\ud800b"),
        ("Grüße", "Grüße"),
        (None, None),
        (True, True),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        pytest.param(1 << 20_000, "<int of 20001 bits>", id="an integer too long to print"),
        (math.inf, math.inf),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(seconds=90), "0:01:30"),
        (decimal.Decimal("12.50"), "12.50"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (Colour.RED, "Colour.RED"),
        (Mood.GLAD, "glad"),
        (Size.LARGE, 3),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Account("bob", "1234"), {"name": "bob", "owner": None}),
        (ValueError("bad"), "ValueError: bad"),
        ((1, (2,)), [1, [2]]),
        ({3}, [3]),
        (frozenset(), []),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (UserList([1]), [1]),
        (UserDict({"a": 1}), {"a": 1}),
        (OrderedDict(a={"b": ()}), {"a": {"b": []}}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        ({1: "a", None: "b", (1, 2): "c", b"k": "d"}, {"1": "a", "None": "b", "[1, 2]": "c", "k": "d"}),
        ({"1": "a", 1: "b"}, {"1": "a", "1 <int>": "b"}),
        (Unspeakable(), "<unrepresentable Unspeakable: ValueError>"),
        ([Unspeakable()], ["<unrepresentable Unspeakable: ValueError>"]),
        ({Unspeakable: 1}, {repr(Unspeakable): 1}),
        (int, "<class 'int'>"),
        (1j, "1j"),
    ],
)
def test_any_value_becomes_plain_data(value: object, expected: object) -> None:
    assert sanitize(value) == expected
    assert type(sanitize(value)) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"), [(str, "a"), (int, 5), (float, 1.5), (bytes, b"a"), (dict, {"a": 1}), (list, [1]), (tuple, (1,))]
)
def test_a_subclass_of_a_plain_type_becomes_the_plain_type(kind: type, value: object) -> None:
    def refuse(self: object) -> str:
        raise ValueError

    odd = type("Odd", (kind,), {"__repr__": refuse, "__str__": refuse})(value)

    assert sanitize(odd) == (list(value) if isinstance(value, tuple) else value)
    assert type(sanitize(odd)) is (list if kind is tuple else kind)


def test_a_container_inside_itself_becomes_a_marker() -> None:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    me = Account("me", "1")
    me.owner = me

    assert sanitize(cyclic) == [1, "<cyclic list>"]
    assert sanitize(me) == {"name": "me", "owner": "<cyclic Account>"}


def test_the_same_container_twice_is_no_cycle() -> None:
    shared = [1]

    assert sanitize([shared, shared]) == [[1], [1]]


def test_depth_is_bounded() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]

    found, depth = sanitize(deep), 0
    while isinstance(found, list):
        found, depth = found[0], depth + 1

    assert depth == MAX_DEPTH
    assert found == "<list of 1 items, too deep>"


def test_items_are_bounded_and_the_rest_is_counted() -> None:
    numbers = sanitize(range(10**9))
    mapping = sanitize({str(n): n for n in range(500)})

    assert len(numbers) == MAX_ITEMS + 1
    assert numbers[-1] == f"[... {10**9 - MAX_ITEMS} items left out ...]"
    assert mapping["[...]"] == "[... 300 items left out ...]"
    assert len(from_record(a_record("hi", **{f"k{n}": n for n in range(500)})).extra) == MAX_ITEMS + 1


def test_long_text_and_bytes_say_what_was_left_out() -> None:
    assert sanitize("x" * (MAX_EVENT + 5)).endswith("x[... 5 characters left out ...]")
    assert sanitize(b"x" * (MAX_EVENT + 5)).endswith(b"x[... 5 bytes left out ...]")


def test_an_object_whose_special_methods_raise_is_shown_by_its_repr() -> None:
    class Raising:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError("outside of a request")

        def __len__(self) -> int:
            raise RuntimeError

        def __iter__(self) -> Iterator[int]:
            raise RuntimeError

        def __contains__(self, one: object) -> bool:
            raise RuntimeError

        def __repr__(self) -> str:
            return "a repr"

    assert sanitize({"a": Raising()}) == {"a": "a repr"}


def test_a_generator_is_not_consumed() -> None:
    numbers = (n for n in range(3))

    assert sanitize(numbers).startswith("<generator object")
    assert list(numbers) == [0, 1, 2]


@given(VALUES)
def test_sanitizing_twice_changes_nothing(value: object) -> None:
    once = sanitize(value)

    assert sanitize(once) == once
    packed = msgpack.packb(once, unicode_errors="surrogatepass")
    assert msgpack.unpackb(packed, unicode_errors="surrogatepass") == once


@given(st.dictionaries(st.text(max_size=3) | st.binary(max_size=3) | st.none(), VALUES | st.just([]) | st.just({})))
def test_what_is_flat_is_plain_and_holds_no_container(values: dict[Any, Any]) -> None:
    is_simple = is_plain(values) and not any(isinstance(value, dict | list) for value in values.values())

    assert is_flat(values) == is_simple


def test_more_items_than_are_kept_are_not_called_flat() -> None:
    assert not is_flat({str(number): number for number in range(MAX_ITEMS + 1)})


HUGE = {
    "many texts": {str(n): "x" * 100_000 for n in range(50)},
    "many numbers": [[[*range(150)] for _ in range(150)] for _ in range(150)],
    "deep": {"a": {"b": [[1.5] * 200] * 200}},
}


@pytest.mark.parametrize("huge", HUGE.values(), ids=HUGE)
def test_a_huge_value_leaves_its_small_siblings_whole(huge: object) -> None:
    small = {"tags": ["billing", "eu"], "user": {"name": "jill", "id": 5}, "text": "x" * 900}

    found = sanitize({"huge": huge, **small})

    assert {key: found[key] for key in small} == small
    assert "left out" in repr(found["huge"])
