"""An event that is too large is cut to size: the largest parts first, with a word on what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.application.capture.record import from_record
from shipper.event.codec import unpack
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import MAX_EVENT, Event, EventId
from shipper.event.truncate import cut, pack

from ..support.oddities import LEFT_OUT, a_record, caught


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
    exceptions = [ExceptionInfo("raised", "a.B", "B", "m" * 1000)] * 3
    event = Event(message="x" * 1000, extra={"a": "x" * 1000}, exceptions=exceptions)

    least = cut(event, 10)

    assert len(pack(least)) < 1000
    assert least.extra == {"[...]": "[... 1 items left out ...]"}
    assert least.exceptions[0].notes == ["[... 2 exceptions left out ...]"]


# -- what stays --------------------------------------------------------------------------------------------------------

IDENTITY = {
    "apiKey": "k",
    "logLevel": "fatal",
    "classification": "issue",
    "eventType": "billing",
    "eventMessage": "payment failed",
    "eventUser": "jill",
    "eventSession": "2f1c",
    "contextAppVersion": "9.9",
    "deploymentStage": "production",
    "contextTags": ["billing", "eu", "a-tag-that-is-longer-than-most", "another-tag-that-is-longer-than-most"],
    "contextCrossAppCorrelationId": "11111111-2222-4333-8444-555555555555",
    "tracking-id": "66666666-2222-4333-8444-555555555555",
    "source-fqn": "APPL=shop#SERVER=web-1#NETADDR=10.0.0.1",
    "eventTime": 1_700_000_000_000,
}
LINE = {"function": "pay", "line": 3, "file": "shop/payments.py"}
TRACE = [{"type": "a.B", "message": "m" * 13_000, "traceLines": [LINE] * 100} for _ in range(20)]
PROPERTY = {"name": "amount", "value": 12.5, "type": "currency"}
SNAPSHOT = {"name": "cpu", "time-usec": 5, "type": "SNAPSHOT", "category": "os", "properties": [PROPERTY] * 20}
LARGE: dict[str, Any] = {
    "frames": {"eventStacktrace": TRACE},
    "texts": {"customProperties": {"stringData": {f"customData{n}": "x" * 40_000 for n in range(10)}}},
    "many small values": {"customProperties": {str(n): {str(m): m for m in range(200)} for n in range(200)}},
    "many numbers": {"customSegments": [[1.5] * 200] * 190},
    "properties": {"properties": [PROPERTY] * 9000},
    "snapshots": {"snapshots": [SNAPSHOT] * 600},
    "ids": {"id-set": [IDENTITY["tracking-id"]] * 8000},
    "a text of each kind": {"eventURL": "u" * 99_000, "exception": "e" * 99_000, "resource": b"r" * 99_000},
    "unknown keys": {f"key {n}": "v" * 5000 for n in range(100)},
}


@pytest.mark.parametrize("kind", ["trakerr", "jkool", "log"])
@pytest.mark.parametrize("most", [MAX_EVENT, 32 * 1024, 8 * 1024])
@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
def test_what_identifies_a_clients_event_stays_whatever_is_large_in_it(kind: str, most: int, large: Any) -> None:
    data = {**large, **IDENTITY}
    event = Event(kind, message="payment failed", level=50, level_name="fatal", data=data)

    shorter = cut(event, most)

    assert len(pack(shorter)) <= most
    assert {key: shorter.data[key] for key in IDENTITY} == IDENTITY
    assert (shorter.message, shorter.level, shorter.level_name) == ("payment failed", 50, "fatal")
    assert "left out ...]" in repr(shorter)


@pytest.mark.parametrize("most", [MAX_EVENT, 32 * 1024, 8 * 1024])
def test_of_a_deep_chain_each_exception_that_stays_keeps_its_type_and_message(most: int) -> None:
    event = Event("trakerr", data={**IDENTITY, "eventStacktrace": TRACE, "customProperties": {"a": 1}})

    first, *others = cut(event, most).data["eventStacktrace"]

    assert first["type"] == "a.B"
    assert first["message"].startswith("mmm")
    assert first["traceLines"][-1] == LINE
    for one in others:
        assert one.keys() == {"type", "message", "traceLines"}


def test_frames_are_left_out_from_the_middle() -> None:
    lines = [{**LINE, "line": number} for number in range(1, 1001)]

    (trace,) = cut(Event(data={"eventStacktrace": [{**TRACE[0], "traceLines": lines}]}), 8000).data["eventStacktrace"]

    kept = [line["line"] for line in trace["traceLines"]]
    marker = kept.index(0)
    assert kept[:marker] == [*range(1, marker + 1)]
    assert kept[marker + 1 :] == [*range(1001 - len(kept[marker + 1 :]), 1001)]
    assert trace["traceLines"][marker] == {
        "function": "",
        "line": 0,
        "file": f"[... {1000 - len(kept) + 1} frames left out ...]",
    }


@pytest.mark.parametrize(
    ("item", "marker"),
    [
        (PROPERTY, {"name": "[...]", "type": "string"}),
        (SNAPSHOT, {"type": "SNAPSHOT", "category": "os", "time-usec": 5}),
        (TRACE[0], {"type": "[...]", "traceLines": []}),
    ],
)
def test_a_marker_in_a_list_has_the_shape_of_the_other_items(item: Any, marker: dict[str, Any]) -> None:
    *_, last = cut(Event(data={"list": [item] * 150}), 5000).data["list"]

    assert marker.items() <= last.items()
    assert last.keys() <= item.keys()
    assert "items left out ...]" in repr(last)


def test_a_list_that_is_cut_twice_counts_all_that_is_missing() -> None:
    event = Event(data={"numbers": [*range(100_000)], "by name": {str(n): n for n in range(100_000)}})

    twice = cut(cut(event, 50_000), 5000)

    numbers, by_name = twice.data["numbers"], twice.data["by name"]
    assert numbers[-1] == f"[... {100_000 - len(numbers) + 1} items left out ...]"
    assert by_name["[...]"] == f"[... {100_000 - len(by_name) + 1} items left out ...]"


def test_exceptions_are_left_out_from_the_end_and_the_first_one_says_so() -> None:
    exceptions = [ExceptionInfo("raised", "a.B", "B", "m" * 500, [Frame("f", n, "g") for n in range(1, 90)])]
    exceptions += [ExceptionInfo("cause", "a.C", "C", "m" * 500, parent=n) for n in range(19)]

    shorter = cut(Event(exceptions=exceptions), 4000)

    left = len(shorter.exceptions)
    assert 1 <= left < 20
    assert shorter.exceptions[0].notes == [f"[... {20 - left} exceptions left out ...]"]
    assert shorter.exceptions[0].frames[-1] == Frame("f", 89, "g")
    assert unpack(pack(shorter)) == shorter


@given(
    sizes=st.lists(st.integers(0, 30_000), max_size=6),
    kinds=st.lists(st.sampled_from(["text", "bytes", "list", "dict", "frames"]), min_size=6, max_size=6),
    most=st.integers(2000, 60_000),
)
def test_an_event_is_cut_to_any_size_that_is_larger_than_its_least(
    sizes: list[int], kinds: list[str], most: int
) -> None:
    made: dict[str, Callable[[int], Any]] = {
        "text": lambda size: "ü" * size,
        "bytes": lambda size: b"x" * size,
        "list": lambda size: [[1.5, "abc"]] * (size // 10),
        "dict": lambda size: {str(n): n for n in range(size // 10)},
        "frames": lambda size: [dict(LINE)] * (size // 50),
    }
    parts = {f"{kind} {place}": made[kind](size) for place, (kind, size) in enumerate(zip(kinds, sizes, strict=False))}
    event = Event(message="m" * sum(sizes), extra=dict(parts), context=dict(parts), data={**IDENTITY, **parts})

    shorter = cut(event, max(most, 4500))

    assert len(pack(shorter)) <= max(most, 4500)
    assert {key: shorter.data[key] for key in IDENTITY} == IDENTITY
    assert shorter == event or "left out" in repr(shorter)
