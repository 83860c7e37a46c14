"""Bound fields and the current span are part of every event, on the fast path too."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import shipper
from shipper.application.capture.fast_path import build_fast_packer
from shipper.application.capture.record import from_record
from shipper.application.capture.surroundings import bound_fields, current_span, surroundings
from shipper.backends.jkool import JKool
from shipper.backends.protocol import AppContext
from shipper.backends.trakerr import Trakerr
from shipper.event.codec import unpack
from shipper.event.model import Event
from shipper.event.redact import Redact, Redactor
from shipper.event.truncate import pack

SPAN = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "trace_flags": 1}
CONTEXT = AppContext("shop", "/srv/shop", "web-1", "10.0.0.7", lambda time: None)


def record(message: str = "hello") -> logging.LogRecord:
    return logging.LogRecord("shop", 20, "/srv/shop/pay.py", 17, message, (), None, "pay")


def both_ways(made: logging.LogRecord) -> dict[str, Any]:
    """Return the event's context. AssertionError when the fast path gives other bytes than the slow path."""
    redactor = Redactor(Redact())
    event = from_record(made)
    redactor(event, is_sanitized=True)
    packed = pack(event)
    pack_fast = build_fast_packer(redactor)
    assert pack_fast(made) == packed
    assert pack_fast(made) == packed
    return unpack(packed).context


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    yield
    shipper.unbind()


@pytest.fixture
def span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the module `opentelemetry.trace` with one that has a current span."""
    numbers = SimpleNamespace(
        trace_id=int(str(SPAN["trace_id"]), 16), span_id=int(str(SPAN["span_id"]), 16), trace_flags=1
    )
    trace = SimpleNamespace(get_current_span=lambda: SimpleNamespace(get_span_context=lambda: numbers))
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", trace)


def test_bound_fields_are_in_every_event_until_they_are_unbound() -> None:
    shipper.bind(order=17, customer="jill")
    shipper.bind(customer="jack")
    assert both_ways(record()) == {"order": 17, "customer": "jack"}

    shipper.unbind("order", "unknown")
    assert both_ways(record()) == {"customer": "jack"}

    shipper.unbind()
    assert both_ways(record()) == {}
    assert bound_fields() is None


def test_a_block_ends_with_the_fields_that_it_began_with() -> None:
    shipper.bind(order=17)

    with shipper.bound(step="pay", order=18):
        assert both_ways(record()) == {"order": 18, "step": "pay"}

    assert both_ways(record()) == {"order": 17}


def test_a_secret_that_is_bound_is_masked_and_the_bound_value_stays() -> None:
    shipper.bind(password="hunter2", note="Bearer abcdefgh12345678")

    assert both_ways(record()) == {"password": "[redacted]", "note": "Bearer [redacted]"}
    assert (bound_fields() or {})["password"] == "hunter2"


def test_values_are_read_when_they_are_bound() -> None:
    items = [1]
    shipper.bind(items=items)
    items.append(2)

    assert both_ways(record()) == {"items": [1]}


def test_a_thread_begins_without_fields_and_a_task_with_those_of_its_maker() -> None:
    seen: dict[str, Any] = {}

    async def task(name: str) -> None:
        shipper.bind(task=name)
        await asyncio.sleep(0)
        seen[name] = surroundings()

    async def main() -> None:
        shipper.bind(request=1)
        await asyncio.gather(task("a"), task("b"))
        seen["main"] = surroundings()

    shipper.bind(order=17)
    thread = threading.Thread(target=lambda: seen.update(thread=surroundings()))
    thread.start()
    thread.join()
    asyncio.run(main())

    assert seen["thread"] == {}
    assert seen["a"] == {"order": 17, "request": 1, "task": "a"}
    assert seen["b"] == {"order": 17, "request": 1, "task": "b"}
    assert seen["main"] == {"order": 17, "request": 1}
    assert surroundings() == {"order": 17}


def test_a_generator_that_is_closed_elsewhere_takes_no_field_along() -> None:
    def work() -> Generator[None, None, None]:
        with shipper.bound(order=17):
            yield

    begun = work()
    thread = threading.Thread(target=next, args=(begun,))
    thread.start()
    thread.join()

    begun.close()

    assert bound_fields() is None


def test_the_application_s_context_wins_over_bound_fields() -> None:
    shipper.bind(order=17, user="jill")

    assert from_record(record(), context=lambda: {"order": 18}).context == {"order": 18, "user": "jill"}


@pytest.mark.usefixtures("span")
def test_the_current_span_is_in_every_event() -> None:
    assert both_ways(record()) == SPAN

    shipper.bind(order=17)
    assert both_ways(record()) == {**SPAN, "order": 17}


@pytest.mark.usefixtures("span")
def test_the_trace_is_a_correlation_id_unless_the_user_has_set_one() -> None:
    event = from_record(record())
    chosen = Event(context=dict(SPAN), data={"contextCrossAppCorrelationId": "mine"})

    assert Trakerr("k").app_event(event, CONTEXT)["contextCrossAppCorrelationId"] == SPAN["trace_id"]
    assert Trakerr("k").app_event(chosen, CONTEXT)["contextCrossAppCorrelationId"] == "mine"
    assert JKool("t").wire_event(event, CONTEXT)["corr-id"] == SPAN["trace_id"]
    tagged = Event(context=dict(SPAN), kind="jkool", data={"corr-id": "mine"})
    assert JKool("t").wire_event(tagged, CONTEXT)["corr-id"] == "mine"


@pytest.mark.parametrize(
    "module",
    [
        SimpleNamespace(),
        SimpleNamespace(get_current_span=lambda: None),
        SimpleNamespace(get_current_span=lambda: SimpleNamespace(get_span_context=lambda: SimpleNamespace(trace_id=0))),
    ],
    ids=["half imported", "no span", "an invalid span"],
)
def test_without_a_span_there_is_nothing(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)

    assert current_span() is None


def test_opentelemetry_s_own_span_is_read() -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    given = trace.SpanContext(int(str(SPAN["trace_id"]), 16), int(str(SPAN["span_id"]), 16), False, trace.TraceFlags(1))

    with trace.use_span(trace.NonRecordingSpan(given)):
        assert both_ways(record()) == SPAN
    assert current_span() is None
