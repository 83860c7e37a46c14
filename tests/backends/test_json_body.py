"""The fast encoders of `JKool` and `Trakerr` give the same bytes as the general path."""

from __future__ import annotations

import json
import string
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.backends.jkool import JKool
from shipper.backends.protocol import AppContext
from shipper.backends.trakerr import Trakerr
from shipper.backends.wire import jkool_body, jkool_event, trakerr_body, trakerr_event
from shipper.backends.wire.json_body import ENQUOTE, json_text, split_at
from shipper.event.codec import unpack
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId
from shipper.event.truncate import pack

LOADS = (None, (12.5, 40.25), (0.0, 100.0), (1e-7, float("nan")))
CONTEXT = AppContext("checkout", "/srv/app", "web-1", "10.0.0.7", lambda time: LOADS[int(time) % len(LOADS)])
ID = EventId(bytes(range(8)), 17)

JKOOLS = (
    JKool("t"),
    JKool("t", source_fqn="APPL=Py#SERVER=s100", keys="tnt4j"),
    JKool("t", special_numbers=ENQUOTE),
)
TRAKERRS = (
    Trakerr("k"),
    Trakerr("k", "2", "live", app_sku="mobile", tags=("eu", "ünï"), data_center="dc", app_browser="Firefox"),
)


def general_text(backend: JKool | Trakerr, event: Event) -> str:
    if isinstance(backend, JKool):
        return json_text(backend.wire_event(event, CONTEXT), backend.special_numbers)
    return json_text(backend.app_event(event, CONTEXT))


def fast_encoder(backend: JKool | Trakerr) -> Callable[[Event], str | None]:
    if isinstance(backend, JKool):
        return jkool_body.build_fast_encoder(backend, CONTEXT)
    return trakerr_body.build_fast_encoder(backend, CONTEXT)


texts = st.text(max_size=30) | st.sampled_from([
    "2026-11-26", "2026-11-26 10:00:00.5+01:00", "2026-11-2x", '"\\\x00\x7f', "\udc80", "\ud83d", "😀", "NaN",
    "٢٠٢٦-١١-٢٦",
])  # fmt: skip
names = st.text(string.ascii_lowercase + '_é"', min_size=1, max_size=8) | st.sampled_from(
    ["allTags", "trakerr", "name", "value", "stack_info", "customData1", "exception", "password"]
)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
values = st.recursive(
    texts | numbers | st.booleans() | st.none() | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
extras = st.dictionaries(names, values, max_size=12)
whole = st.integers(0, 2**63 - 1) | st.just(0)
raised = ExceptionInfo("raised", "builtins.ValueError", "ValueError", "no", [Frame("a.py", 1, "f")])
said = st.dictionaries(st.sampled_from([*jkool_event.FIELDS, *trakerr_event.FIELDS]), values, max_size=3)
events = st.builds(
    Event,
    kind=st.sampled_from(["log", "log", "log", "trakerr", "jkool"]),
    time=st.floats(-62135596800.0, 253402300799.0),
    level=st.sampled_from([0, 10, 20, 25, 30, 40, 50, 60]) | st.integers(-(2**63), 2**63 - 1),
    level_name=texts | st.sampled_from(["INFO", "HALT"]),
    logger=texts,
    message=texts,
    path=texts,
    line=whole,
    function=texts,
    pid=whole,
    process=texts,
    tid=whole,
    thread=texts,
    task=st.none() | texts,
    exceptions=st.sampled_from([[], [], [raised]]),
    stack=st.none() | st.none() | texts,
    extra=extras,
    context=st.just({}) | extras,
    data=st.just({}) | st.just({}) | said,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(events, min_size=1, max_size=3), st.sampled_from(JKOOLS + TRAKERRS), st.integers(0, 2**64 - 1))
def test_the_fast_path_gives_the_text_of_the_general_path(
    made: list[Event], backend: JKool | Trakerr, seq: int
) -> None:
    encode = fast_encoder(backend)

    for event in made:
        travelled = unpack(pack(event), EventId(ID.token, seq))
        assert encode(travelled) in (None, general_text(backend, travelled))
        assert backend.body([travelled], CONTEXT).decode() == general_text(backend, travelled)


def usual(**more: Any) -> Event:
    given: dict[str, Any] = {
        "time": 1795426903.987654, "level": 40, "level_name": "ERROR", "logger": "shop", "message": "order 17 paid",
        "path": "/srv/app/pay.py", "line": 17, "pid": 4711, "tid": 815, "id": ID,
    }  # fmt: skip
    return Event(**{**given, **more})


@pytest.mark.parametrize("backend", JKOOLS + TRAKERRS)
@pytest.mark.parametrize(
    "event",
    [
        usual(),
        usual(extra={"amount": 12.5, "region": "eu-1", "count": -1, "yes": True, "nothing": None}),
        usual(extra={"since": "2026-11-26", "items": [1, {"a": float("inf")}], "data": b"\xff", "far": float("nan")}),
        usual(extra={f"key{number}": number for number in range(12)}),
        usual(extra={"user": "jill"}, context={"user": "jack", "request": 5}),
        usual(message="", logger="", path="", pid=0, tid=0, level=17, level_name="Level 17"),
        usual(message="Grüße €", logger="läden", path="/srv/läden.py"),
    ],
)
def test_a_usual_event_takes_the_fast_path(event: Event, backend: JKool | Trakerr) -> None:
    assert fast_encoder(backend)(event) == general_text(backend, event)


@pytest.mark.parametrize("backend", JKOOLS + TRAKERRS)
@pytest.mark.parametrize(
    "event",
    [
        usual(exceptions=[raised]),
        usual(stack="Stack ..."),
        usual(data={"eventUser": "jill", "user": "jill"}),
        usual(extra={"allTags": ["user"], "user": "jill"}),
        usual(context={"trakerr": {"event_user": "jill"}}),
    ],
)
def test_any_other_event_takes_the_general_path(event: Event, backend: JKool | Trakerr) -> None:
    assert fast_encoder(backend)(event) is None
    assert json.loads(backend.body([event], CONTEXT)) == json.loads(general_text(backend, event))


def test_cached_text_of_ever_new_logging_calls_is_bounded() -> None:
    backend = JKool("another")
    tracemalloc.start()
    try:
        for number in range(5000):
            backend.body([usual(line=number)], CONTEXT)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 1_500_000


def test_an_object_is_split_at_the_gaps() -> None:
    """Adjacent gaps count as one, and fields that are None are left out."""
    fields = {"a": 1, "b": "ü", "gap": 0, "c": None, "other": 0, "gap2": 0, "d": [1]}

    assert split_at({"gap", "other", "gap2"}, fields) == [', "a": 1, "b": "\\u00fc"', "", ', "d": [1]']


@dataclass(frozen=True)
class Tagging(JKool):
    """Sends one more key, and is not hashable."""

    more: dict[str, str] = field(default_factory=dict)

    def wire_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        return {**super().wire_event(event, context), **self.more}


@dataclass(frozen=True)
class Naming(Trakerr):
    more: dict[str, str] = field(default_factory=dict)

    def app_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        return {**super().app_event(event, context), **self.more}


@pytest.mark.parametrize("backend", [Tagging("t", more={"tenant": "acme"}), Naming("k", more={"tenant": "acme"})])
def test_a_derived_backend_encodes_every_event_itself(backend: Tagging | Naming) -> None:
    usual = Event(time=1.7e9, level=40, level_name="ERROR", logger="a", message="b", id=ID)

    assert json.loads(backend.body([usual], CONTEXT))["tenant"] == "acme"
