"""Records, values and exceptions that are hard to log."""

from __future__ import annotations

import dataclasses
import enum
import logging
import re
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

LEFT_OUT = re.compile(r"\[\.\.\. (\d+) characters left out \.\.\.\]$")


def a_record(msg: object = "order %d paid", *args: object, **values: object) -> logging.LogRecord:
    record = logging.LogRecord("orders", logging.INFO, "/srv/shop/orders.py", 12, msg, args, None, "pay")
    record.__dict__.update(values)
    return record


def caught(*raising: Callable[[], object]) -> BaseException:
    """Return what the last callable raises while the exceptions of the others are being handled."""
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
    """Like an ExceptionGroup, on every Python."""

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


def a_chain() -> BaseException:
    def chain() -> None:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError("second\nline") from exc

    return caught(fails(OSError("zeroth")), chain)


def a_deep_one(depth: int) -> BaseException:
    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("bottom")
        dive(depth - 1)

    return caught(lambda: dive(depth))
