"""A record becomes an event: nothing that can be logged raises."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.application.capture.record import from_record
from shipper.event.codec import unpack
from shipper.event.model import MAX_EVENT, Event
from shipper.event.truncate import pack

from ..support.oddities import LEFT_OUT, TEXTS, VALUES, Unspeakable, a_record, fails
from ..support.waiting import scaled


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
        ("lone \ud800", (), "lone \ud800"),
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
    assert (event.tid, event.path, event.process) == (2**63 - 1, "b'x'", "\udcff")
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


def test_a_container_is_copied() -> None:
    basket = {"items": [1]}
    event = from_record(a_record("hi", basket=basket))

    basket["items"].append(2)

    assert event.extra == {"basket": {"items": [1]}}


def test_the_whole_is_bounded() -> None:
    bomb: list[Any] = ["x"] * 150
    for _ in range(6):
        bomb = [bomb] * 150
    started = time.monotonic()

    event = unpack(pack(from_record(a_record("hi", bomb=bomb, texts=["y" * 200_000] * 150))))

    assert event.message == "hi"
    assert time.monotonic() - started < scaled(5)


ATTRIBUTES = st.sampled_from([*vars(a_record()), "taskName", "message"])


@given(msg=VALUES, args=st.lists(VALUES, max_size=3), values=st.dictionaries(TEXTS | ATTRIBUTES, VALUES, max_size=6))
def test_anything_that_can_be_logged_arrives(msg: object, args: list[Any], values: dict[str, object]) -> None:
    record = a_record(msg, *args)
    record.__dict__.update(values)

    event = from_record(record, context=lambda: values)
    payload = pack(event)

    assert len(payload) <= MAX_EVENT
    assert unpack(payload) == event
