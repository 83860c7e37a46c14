"""An event takes whatever a user puts into it, and is an ordinary dataclass."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipper.application.capture.record import from_record
from shipper.event.codec import unpack
from shipper.event.exceptions import ExceptionInfo
from shipper.event.model import MAX_EVENT, Event
from shipper.event.truncate import pack

from ..support.oddities import VALUES, Size, a_record, caught, fails


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
