"""Settings that are limits: which values are allowed, and what the error for another value says."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Any

import pytest

from shipper import Batching, ConfigurationError, Retry
from shipper.config.limits import LONGEST, Spooling

BAD: list[tuple[type[Any], str, list[Any]]] = [
    (Batching, "max_events", [0, -1, 1.5, True, "10", None, math.inf]),
    (Batching, "max_bytes", [0, 1e6, False, b"1"]),
    (Batching, "max_age", [-0.1, 1e10, math.nan, math.inf, "1", None, True]),
    (Retry, "initial", [-1, math.nan, "x"]),
    (Retry, "maximum", [-1, 1e10, math.inf, 0.1]),
    (Retry, "max_retry_after", [-1, 1e10, None]),
    (Retry, "unauthorised", [-1, 1e10, []]),
    (Retry, "poison_after", [-1, 1e10, math.nan]),
    (Spooling, "quota", [0, 1.0, 16 * 1024 * 1024]),
    (Batching, "processes", [None, 1, "yes"]),
    (Spooling, "when_full", ["", "both", None, 1]),
    (Spooling, "segment", [0, 4095, 1e6]),
    (Spooling, "fsync", [-1, 1e10, math.nan, True]),
    (Spooling, "dead", [0, 4095, None]),
    (Spooling, "keep", [-1, 1.5, True, "10M", "soon", 4096, "-10m"]),
]
CASES = [(kind, name, value) for kind, name, values in BAD for value in values]


@pytest.mark.parametrize(("kind", "name", "value"), CASES, ids=lambda part: getattr(part, "__name__", repr(part)))
def test_a_wrong_value_is_named_with_its_setting_and_what_is_allowed(kind: type[Any], name: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as told:
        kind(**{name: value})

    assert told.value.setting == f"{kind.__name__.lower()}.{name}"
    assert told.value.value is value or told.value.value == value
    assert "must" in told.value.allowed
    assert repr(value) in str(told.value)


def test_every_number_has_a_case_here() -> None:
    named = {(kind, name) for kind, name, _ in BAD}

    assert named == {(kind, each.name) for kind in (Batching, Retry, Spooling) for each in dataclasses.fields(kind)}


def test_the_longest_wait_that_is_allowed_can_be_waited_for() -> None:
    rung = threading.Event()
    bell = threading.Timer(0.01, rung.set)

    bell.start()

    assert rung.wait(Retry(unauthorised=LONGEST).unauthorised)


@pytest.mark.parametrize("kind", [Batching, Retry, Spooling])
def test_limits_are_frozen(kind: type[Any]) -> None:
    made = kind()

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(kind)[0].name, 1)


def test_the_defaults_are_those_of_the_docstrings() -> None:
    assert Batching() == Batching(max_events=500, max_bytes=1_000_000, max_age=1.0)
    assert Retry() == Retry(initial=0.5, maximum=60.0, max_retry_after=300.0, unauthorised=60.0, poison_after=600.0)
    assert Spooling() == Spooling(512 * 2**20, when_full="oldest", segment=16 * 2**20, fsync=0.0, dead=64 * 2**20)


@pytest.mark.parametrize(
    ("given", "kept", "seconds"),
    [
        (0, 0, None),
        ("0", 0, None),
        ("1 GiB", 1 << 30, None),
        (16 * 1024 * 1024, 16 * 1024 * 1024, None),
        ("10m", "10m", 600.0),
        ("10 min", "10 min", 600.0),
        ("1.5h", "1.5h", 5400.0),
        ("90s", "90s", 90.0),
        ("999999d", "999999d", LONGEST),
    ],
)
def test_what_is_kept_is_a_size_or_a_time(given: Any, kept: int | str, seconds: float | None) -> None:
    made = Spooling(keep=given)

    assert (made.keep, made.keep_seconds) == (kept, seconds)
