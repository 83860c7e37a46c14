"""Exceptions become the text of a traceback, and such a text becomes exceptions."""

from __future__ import annotations

import builtins
import logging
import pickle
import re
import sys
import traceback
from collections.abc import Callable

import pytest

from shipper.application.capture.record import from_record
from shipper.event.exceptions import ExceptionInfo, Frame, capture_exceptions
from shipper.event.tracebacks import traceback_text

from ..support.oddities import Group, a_chain, a_deep_one, a_record, caught, fails


def formatted(exc: BaseException) -> str:
    return logging.Formatter().formatException((type(exc), exc, exc.__traceback__))


def test_a_record_that_has_its_traceback_only_as_text_keeps_the_exceptions() -> None:
    exc = a_chain()
    record = pickle.loads(pickle.dumps(a_record("hi", exc_text=formatted(exc))))

    found = from_record(record).exceptions

    assert [(one.relation, one.type, one.message, one.parent) for one in found] == [
        (one.relation, one.type, one.message, one.parent) for one in capture_exceptions(exc)
    ]
    assert [one.frames for one in found] == [one.frames for one in capture_exceptions(exc)]


def test_a_traceback_text_of_another_form_travels_whole() -> None:
    (only,) = from_record(a_record("hi", exc_text="it went\nwrong")).exceptions

    assert (only.name, only.message) == ("Exception", "it went\nwrong")


def without_source(text: str) -> str:
    """Only the lines that do not depend on the Python version or the source."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not re.match(r"^[ |]* {4}\S|^[ |]*[~^]+$", line) and line.strip())


@pytest.mark.parametrize(
    "make", [a_chain, lambda: a_deep_one(40), lambda: caught(lambda: 1 / 0), lambda: ValueError("no frames")]
)
def test_a_traceback_reads_as_python_prints_it(make: Callable[[], BaseException]) -> None:
    exc = make()

    text = traceback_text(capture_exceptions(exc))

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

    text = traceback_text(capture_exceptions(exc))

    assert without_source(text) == without_source(
        "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    )


def test_a_traceback_shows_the_source_where_there_is_one() -> None:
    frames = [Frame("/a.py", 3, "f"), Frame("[... 7 frames left out ...]", 0, ""), Frame("/b.py", 4, "g")]
    exceptions = [ExceptionInfo("raised", "shop.errors.Bad", "Bad", "no", frames, ["a note"])]

    text = traceback_text(exceptions, source=lambda file, line: f"  line{line}()  " if file == "/a.py" else "")

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
    assert traceback_text([]) == ""
