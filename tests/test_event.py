"""record → event → bytes and back: nothing that can be logged raises, and nothing is cut without saying how much."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
import datetime
import decimal
import enum
import fractions
import logging
import math
import pathlib
import pickle
import re
import sys
import time
import traceback
import types
import uuid
from collections import OrderedDict, UserDict, UserList, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.errors import UndecodableError
from shipper.event import (
    MAX_DEPTH,
    MAX_EVENT,
    MAX_EXCEPTIONS,
    MAX_FRAMES,
    MAX_ITEMS,
    Event,
    EventId,
    Frame,
    Raised,
    cut,
    from_record,
    mend,
    pack,
    plain,
    raised,
    traceback_text,
    unpack,
)

LEFT_OUT = re.compile(r"\[\.\.\. (\d+) characters left out \.\.\.\]$")


def a_record(msg: object = "order %d paid", *args: object, **values: object) -> logging.LogRecord:
    record = logging.LogRecord("orders", logging.INFO, "/srv/shop/orders.py", 12, msg, args, None, "pay")
    record.__dict__.update(values)
    return record


def caught(*raising: Callable[[], object]) -> BaseException:
    """What the last callable raises, raised while the others' exceptions were being handled."""
    *earlier, last = raising
    try:
        if earlier:
            try:
                raise caught(*earlier)
            except Exception:
                last()
        last()
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def fails(exc: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise exc

    return fail


class Group(Exception):
    """What an ExceptionGroup looks like, on every Python."""

    def __init__(self, message: str, exceptions: list[Any]) -> None:
        super().__init__(message)
        self.exceptions = exceptions


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


class Colour(enum.Enum):
    RED = 1


class Mood(str, enum.Enum):
    GLAD = "glad"


class Size(enum.IntEnum):
    LARGE = 3


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Account:
    name: str
    pin: str = dataclasses.field(repr=False)
    owner: Account | None = None


# Records -------------------------------------------------------------------------------------------------------------


def test_a_record_becomes_an_event() -> None:
    record = a_record("order %d paid", 17, amount=12.5, customer="bob")

    event = from_record(record)

    assert event.kind == "log"
    assert event.route is None
    assert (event.time, event.level, event.level_name) == (record.created, 20, "INFO")
    assert (event.logger, event.message) == ("orders", "order 17 paid")
    assert (event.path, event.line, event.function) == ("/srv/shop/orders.py", 12, "pay")
    assert (event.pid, event.process) == (record.process, "MainProcess")
    assert (event.tid, event.thread) == (record.thread, record.threadName)
    assert event.extra == {"amount": 12.5, "customer": "bob"}
    assert (event.exceptions, event.stack, event.context, event.data, event.id) == ([], None, {}, {}, None)


def test_what_python_puts_into_a_record_is_no_extra() -> None:
    record = a_record("hello", taskName="Task-1", customer="bob")
    logging.Formatter("%(message)s %(asctime)s").format(record)

    assert from_record(record).extra == {"customer": "bob"}


def test_private_attributes_do_not_travel() -> None:
    assert from_record(a_record("hello", _shipper_sent=("trakerr",), _mine=1)).extra == {"_mine": 1}


@pytest.mark.parametrize(
    ("msg", "args", "expected"),
    [
        ("%d of %d", (1,), "%d of %d [arguments that do not fit: (1,)]"),
        ("no place", ("x",), "no place [arguments that do not fit: ('x',)]"),
        ("%d", ("x",), "%d [arguments that do not fit: ('x',)]"),
        ("%(a)s", ({"b": 1},), "%(a)s [arguments that do not fit: {'b': 1}]"),
        ("%s", (Unspeakable(),), "%s [arguments that do not fit: <unrepresentable tuple: ValueError>]"),
        (Unspeakable(), (), "<unrepresentable Unspeakable: ValueError>"),
        (17, (), "17"),
        (None, (), "None"),
        ("100%", (), "100%"),
        ("lone \ud800", (), "lone \\ud800"),
        ("Grüße €", (), "Grüße €"),
    ],
)
def test_a_message_is_what_logging_formats_or_says_what_does_not_fit(
    msg: object, args: tuple[object, ...], expected: str
) -> None:
    event = from_record(a_record(msg, *args))

    assert event.message == expected
    assert unpack(pack(event)).message == expected


def test_a_huge_message_is_cut_and_says_how_much() -> None:
    event = unpack(pack(from_record(a_record("x" * 10_000_000))))

    marker = LEFT_OUT.search(event.message)
    assert marker
    assert int(marker[1]) + marker.start() == 10_000_000
    assert len(event.message) > MAX_EVENT - 1000


def test_odd_values_in_a_record_are_made_to_fit() -> None:
    record = a_record("hi")
    record.__dict__.update(
        levelno="40", levelname=None, name=7, created="soon", lineno=None, process=None, thread=2**70, pathname=b"x",
        funcName=Unspeakable(), processName="\udcff", threadName=1.5, taskName=3,
    )  # fmt: skip

    event = from_record(record)

    assert (event.level, event.level_name, event.logger, event.line, event.pid) == (40, "", "7", 0, 0)
    assert (event.tid, event.path, event.process) == (2**63 - 1, "b'x'", "\\udcff")
    assert (event.function, event.thread, event.task) == ("<unrepresentable Unspeakable: ValueError>", "1.5", "3")
    assert abs(event.time - time.time()) < 60
    assert unpack(pack(event)) == event


@pytest.mark.parametrize("created", [math.nan, math.inf, 1e300, None])
def test_a_time_that_no_calendar_has_becomes_now(created: object) -> None:
    assert abs(from_record(a_record("hi", created=created)).time - time.time()) < 60


def test_a_record_without_attributes_is_still_an_event() -> None:
    record = a_record("hi")
    record.__dict__.clear()

    assert unpack(pack(from_record(record))).extra == {}


def test_something_that_is_no_record_does_not_raise() -> None:
    assert "unreadable" in from_record(None).message  # type: ignore[arg-type]


def test_a_record_at_the_edge_of_the_recursion_limit_does_not_raise() -> None:
    def dive() -> Event:
        try:
            return dive()
        except RecursionError:
            return from_record(a_record("deep %d", 1, extra={"a": [1, {"b": 2}]}))

    assert unpack(pack(dive())).level in (logging.INFO, logging.ERROR)


def test_stack_info_travels() -> None:
    assert from_record(a_record("hi", stack_info="Stack (most recent call last):\n  ...")).stack is not None


def test_the_context_is_asked_for_each_record() -> None:
    event = from_record(a_record("hi"), context=lambda: {"request": 7, "tags": {"a"}})

    assert event.context == {"request": 7, "tags": ["a"]}


@pytest.mark.parametrize("context", [lambda: 1 / 0, lambda: 5, lambda: Unspeakable(), fails(ValueError(Unspeakable()))])
def test_a_context_that_raises_leaves_a_marker(context: Callable[[], Mapping[str, object]]) -> None:
    event = from_record(a_record("hi"), context=context)

    assert event.message == "hi"
    assert event.context["[context]"].startswith("<no context: ")


def test_the_context_may_be_nothing_at_all() -> None:
    assert from_record(a_record("hi"), context=lambda: None).context == {}  # type: ignore[arg-type, return-value]


def test_the_task_name_of_asyncio_travels() -> None:
    async def log() -> str | None:
        return from_record(logging.makeLogRecord({"msg": "hi"})).task

    async def main() -> str | None:
        return await asyncio.create_task(log(), name="checkout")

    assert asyncio.run(main()) == "checkout"
    assert from_record(a_record("hi")).task is None


def test_a_task_name_in_the_record_wins() -> None:
    assert from_record(a_record("hi", taskName="from 3.12")).task == "from 3.12"


# Plain data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ("a\ud800b", "a\\ud800b"),
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
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


def test_nan_stays_a_number() -> None:
    assert math.isnan(unpack(pack(from_record(a_record("hi", n=math.nan)))).extra["n"])


@pytest.mark.parametrize(
    ("kind", "value"), [(str, "a"), (int, 5), (float, 1.5), (bytes, b"a"), (dict, {"a": 1}), (list, [1]), (tuple, (1,))]
)
def test_a_subclass_of_a_plain_type_becomes_the_plain_type(kind: type, value: object) -> None:
    def refuse(self: object) -> str:
        raise ValueError

    odd = type("Odd", (kind,), {"__repr__": refuse, "__str__": refuse})(value)

    assert plain(odd) == (list(value) if isinstance(value, tuple) else value)
    assert type(plain(odd)) is (list if kind is tuple else kind)


def test_a_container_is_copied() -> None:
    basket = {"items": [1]}
    event = from_record(a_record("hi", basket=basket))

    basket["items"].append(2)

    assert event.extra == {"basket": {"items": [1]}}


def test_cycles_end() -> None:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    me = Account("me", "1")
    me.owner = me

    assert plain(cyclic) == [1, "<cyclic list>"]
    assert plain(me) == {"name": "me", "owner": "<cyclic Account>"}


def test_the_same_container_twice_is_no_cycle() -> None:
    shared = [1]

    assert plain([shared, shared]) == [[1], [1]]


def test_depth_is_bounded() -> None:
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]

    found, depth = plain(deep), 0
    while isinstance(found, list):
        found, depth = found[0], depth + 1

    assert depth == MAX_DEPTH
    assert found == "<list of 1 items, too deep>"


def test_items_are_bounded_and_the_rest_is_counted() -> None:
    numbers = plain(range(10**9))
    mapping = plain({str(n): n for n in range(500)})

    assert len(numbers) == MAX_ITEMS + 1
    assert numbers[-1] == f"[... {10**9 - MAX_ITEMS} items left out ...]"
    assert mapping["[...]"] == "[... 300 items left out ...]"
    assert len(from_record(a_record("hi", **{f"k{n}": n for n in range(500)})).extra) == MAX_ITEMS + 1


def test_the_whole_is_bounded() -> None:
    bomb: list[Any] = ["x"] * 150
    for _ in range(6):
        bomb = [bomb] * 150
    started = time.monotonic()

    event = unpack(pack(from_record(a_record("hi", bomb=bomb, texts=["y" * 200_000] * 150))))

    assert event.message == "hi"
    assert time.monotonic() - started < 5


def test_long_text_and_bytes_say_what_was_left_out() -> None:
    assert plain("x" * (MAX_EVENT + 5)).endswith("x[... 5 characters left out ...]")
    assert plain(b"x" * (MAX_EVENT + 5)).endswith(b"x[... 5 bytes left out ...]")


def test_values_that_lie_about_themselves_do_no_harm() -> None:
    class Lies:
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
            return "a liar"

    assert plain({"a": Lies()}) == {"a": "a liar"}


def test_a_generator_is_not_consumed() -> None:
    numbers = (n for n in range(3))

    assert plain(numbers).startswith("<generator object")
    assert list(numbers) == [0, 1, 2]


# Exceptions ----------------------------------------------------------------------------------------------------------


def test_an_exception_has_type_message_and_frames() -> None:
    event = from_record(a_record("hi", exc_info=caught(lambda: [][1])))

    (only,) = event.exceptions
    assert (only.relation, only.type, only.name) == ("raised", "builtins.IndexError", "IndexError")
    assert only.message == "list index out of range"
    assert [frame.function for frame in only.frames] == ["caught", "<lambda>"]
    assert all(frame.file == __file__ and frame.line > 0 for frame in only.frames)
    assert unpack(pack(event)) == event


def test_the_type_names_module_and_class() -> None:
    class Inner(Exception):
        pass

    found = raised(Inner())[0]

    assert found.type == f"{__name__}.test_the_type_names_module_and_class.<locals>.Inner"
    assert found.name == "Inner"


def test_causes_contexts_and_members_follow_the_exception() -> None:
    cause = ValueError("cause")
    cause.__context__ = KeyError("context of the cause")
    member = OSError("member")
    member.__cause__ = EOFError("cause of the member")
    group = Group("group", [member, TypeError("other member"), "no exception"])
    group.__cause__ = cause

    found = [(one.relation, one.message, one.parent) for one in raised(group)]

    assert found == [
        ("raised", "group", 0),
        ("cause", "cause", 0),
        ("group", "member", 0),
        ("group", "other member", 0),
        ("context", "'context of the cause'", 1),
        ("cause", "cause of the member", 2),
    ]


def test_a_suppressed_context_is_left_out() -> None:
    exc = ValueError("new")
    exc.__context__ = KeyError("old")
    exc.__suppress_context__ = True

    assert len(raised(exc)) == 1


@pytest.mark.parametrize("nothing", [None, False, (None, None, None), (), (ValueError,), 17, "text", []])
def test_nothing_was_raised(nothing: object) -> None:
    assert [one.type for one in raised(nothing)] == (["builtins.ValueError"] if nothing == (ValueError,) else [])
    assert unpack(pack(from_record(a_record("hi", exc_info=nothing)))).message == "hi"


def test_true_is_the_exception_that_is_being_handled() -> None:
    assert raised(True) == []

    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        found = raised(True)

    assert [one.type for one in found] == ["builtins.KeyboardInterrupt"]


def test_an_exc_info_triple_may_lack_its_traceback() -> None:
    exc = caught(fails(ValueError("bad")))
    never_raised = ValueError("bad")

    assert raised((ValueError, exc, None)) == raised([ValueError, exc, exc.__traceback__]) == raised(exc)
    assert raised((ValueError, never_raised, None)) == [Raised("raised", "builtins.ValueError", "ValueError", "bad")]


def test_notes_travel() -> None:
    exc = ValueError("bad")
    exc.__notes__ = ["first", 2, *map(str, range(100))]  # type: ignore[attr-defined]

    notes = raised(exc)[0].notes

    assert notes[:2] == ["first", "2"]
    assert notes[-1] == "[... 82 notes left out ...]"


def test_an_exception_loop_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert [found.message for found in raised(one)] == ["one", "other"]


def test_at_most_twenty_exceptions_are_kept() -> None:
    found = raised(Group("many", [ValueError(n) for n in range(50)]))

    assert len(found) == MAX_EXCEPTIONS
    assert found[0].notes == ["[... 31 or more exceptions left out ...]"]


def test_the_middle_of_a_long_traceback_is_cut() -> None:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("bottom")
        dive(depth - 1)

    frames = raised(caught(lambda: dive(897)))[0].frames

    assert len(frames) == MAX_FRAMES
    assert frames[50] == Frame("[... 801 frames left out ...]", 0, "")
    assert frames[0].function == "caught"
    assert frames[-1].function == "dive"


def test_an_exception_that_can_not_be_said_still_travels() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise KeyError

        @property
        def exceptions(self) -> object:
            raise OSError

        @property
        def __notes__(self) -> object:
            raise OSError

    found = raised(Hostile())[0]

    assert found.message == "<unrepresentable Hostile: KeyError>"
    assert (found.name, found.notes) == ("Hostile", [])


def test_an_exception_whose_cause_can_not_be_asked_for_leaves_a_marker() -> None:
    class Hostile(Exception):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise OSError

    event = from_record(a_record("hi", exc_info=Hostile("bad")))

    assert event.message == "hi"
    assert event.exceptions[0].message == "<unreadable exception: OSError>"


def formatted(exc: BaseException) -> str:
    return logging.Formatter().formatException((type(exc), exc, exc.__traceback__))


def test_a_record_that_has_its_traceback_only_as_text_keeps_the_exceptions() -> None:
    def chain() -> None:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError("second\nline") from exc

    exc = caught(fails(OSError("zeroth")), chain)
    record = pickle.loads(pickle.dumps(a_record("hi", exc_text=formatted(exc))))

    found = from_record(record).exceptions

    assert [(one.relation, one.type, one.message, one.parent) for one in found] == [
        (one.relation, one.type, one.message, one.parent) for one in raised(exc)
    ]
    assert [one.frames for one in found] == [one.frames for one in raised(exc)]


def test_a_traceback_text_of_another_form_travels_whole() -> None:
    (only,) = from_record(a_record("hi", exc_text="it went\nwrong")).exceptions

    assert (only.name, only.message) == ("Exception", "it went\nwrong")


# Bytes ---------------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec=None), max_size=40)  # lone surrogates too
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    TEXTS,
    st.binary(max_size=20),
    st.datetimes(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
    st.builds(Unspeakable),
    st.builds(ValueError, TEXTS),
    st.sampled_from([Colour.RED, Mood.GLAD, Size.LARGE, int, len, object()]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(TEXTS | st.integers() | st.none(), inner, max_size=5)
        | st.tuples(inner, inner)
        | st.builds(Account, TEXTS, TEXTS)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=20,
)
ATTRIBUTES = st.sampled_from([*vars(a_record()), "taskName", "message"])


@given(msg=VALUES, args=st.lists(VALUES, max_size=3), values=st.dictionaries(TEXTS | ATTRIBUTES, VALUES, max_size=6))
def test_anything_that_can_be_logged_arrives(msg: object, args: list[Any], values: dict[str, object]) -> None:
    record = a_record(msg, *args)
    record.__dict__.update(values)

    event = from_record(record, context=lambda: values)
    payload = pack(event)

    assert len(payload) <= MAX_EVENT
    assert unpack(payload) == event


@given(VALUES)
def test_what_was_made_plain_is_plain(value: object) -> None:
    once = plain(value)

    assert plain(once) == once
    assert msgpack.unpackb(msgpack.packb(once)) == once


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
        Event(exceptions=[Raised("raised", "a.B", "B", "", [Frame("f" * 900, 1, "g" * 900)] * 100)] * 20),
        Event(exceptions=[Raised("raised", "a.B", "B", "m" * 2**18, [], ["n" * 999] * 1000)] * 20),
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
    event = Event(message="x" * 1000, extra={"a": 1}, exceptions=[Raised("raised", "a.B", "B", "m")] * 3)

    least = cut(event, 10)

    assert len(pack(least)) < 500
    assert least.extra == {"[...]": "[... 1 items left out ...]"}
    assert least.exceptions[0].notes == ["[... 2 exceptions left out ...]"]


# Events that a hook has changed --------------------------------------------------------------------------------------


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


def test_mend_makes_an_event_plain_in_place() -> None:
    event = Event(message="hi", extra={"tags": {"a"}}, id=EventId(b"12345678", 1))
    tidy = Event(extra={"tags": ["a"]})
    tags = tidy.extra["tags"]

    mend(event)
    mend(tidy)

    assert (event.extra, event.message) == ({"tags": ["a"]}, "hi")
    assert event.id == EventId(b"12345678", 1)
    assert tidy.extra["tags"] is tags


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


@given(changes=st.dictionaries(st.sampled_from(Raised.__slots__), VALUES, min_size=1, max_size=3))
def test_whatever_a_user_makes_of_an_exception_is_packed(changes: dict[str, Any]) -> None:
    event = from_record(a_record("hi", exc_info=caught(fails(ValueError("a")), lambda: 1 / 0)))
    for name, value in changes.items():
        setattr(event.exceptions[1], name, value)

    assert len(unpack(pack(event)).exceptions) == 2


# Tracebacks ----------------------------------------------------------------------------------------------------------


def without_source(text: str) -> str:
    """Only the lines that do not depend on the Python version or the source."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not re.match(r"^[ |]* {4}\S|^[ |]*[~^]+$", line) and line.strip())


def a_chain() -> BaseException:
    def chain() -> None:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError("second\nline") from exc

    return caught(fails(OSError()), chain)


def a_deep_one() -> BaseException:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("bottom")
        dive(depth - 1)

    return caught(lambda: dive(40))


@pytest.mark.parametrize("make", [a_chain, a_deep_one, lambda: caught(lambda: 1 / 0), lambda: ValueError("no frames")])
def test_a_traceback_reads_as_python_prints_it(make: Callable[[], BaseException]) -> None:
    exc = make()

    text = traceback_text(Event(exceptions=raised(exc)))

    assert text.endswith("\n")
    assert without_source(text) == without_source(
        "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 knows no groups")
def test_a_group_reads_as_python_prints_it() -> None:
    group = getattr(builtins, "ExceptionGroup", Group)
    inner = caught(fails(group("inner", [caught(fails(OSError("a"))), a_chain()])))
    outer = group("outer", [caught(fails(ValueError("first"))), inner, caught(fails(TypeError("last")))])
    outer.__cause__ = a_chain()
    exc = caught(fails(outer))

    text = traceback_text(Event(exceptions=raised(exc)))

    assert without_source(text) == without_source(
        "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    )


def test_a_traceback_shows_the_source_where_there_is_one() -> None:
    frames = [Frame("/a.py", 3, "f"), Frame("[... 7 frames left out ...]", 0, ""), Frame("/b.py", 4, "g")]
    event = Event(exceptions=[Raised("raised", "shop.errors.Bad", "Bad", "no", frames, ["a note"])])

    text = traceback_text(event, source=lambda file, line: f"  line{line}()  " if file == "/a.py" else "")

    assert text == (
        "Traceback (most recent call last):\n"
        '  File "/a.py", line 3, in f\n'
        "    line3()\n"
        "  [... 7 frames left out ...]\n"
        '  File "/b.py", line 4, in g\n'
        "shop.errors.Bad: no\n"
        "a note\n"
    )


def test_there_is_no_traceback_without_an_exception() -> None:
    assert traceback_text(Event()) == ""
