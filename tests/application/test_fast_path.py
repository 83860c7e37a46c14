"""The fast path of a usual record: the same bytes as the slow path."""

from __future__ import annotations

import asyncio
import logging
import string
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipper.application.capture.fast_path import FastPathUnavailable, build_fast_packer
from shipper.application.capture.record import from_record
from shipper.event.codec import unpack
from shipper.event.model import MAX_EVENT
from shipper.event.redact import Redact, Redactor
from shipper.event.truncate import pack


def long_way(record: logging.LogRecord, redactor: Redactor) -> bytes:
    event = from_record(record)
    redactor(event, is_sanitized=True)
    return pack(event)


def record(message: object = "x", args: Any = (), /, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("shop", 20, "/srv/shop/pay.py", 17, message, args, None, "pay")
    made.__dict__.update(more)
    return made


def takes_fast_path(made: logging.LogRecord, redact: Redact | None = None) -> bool:
    """Whether the record takes the fast path. AssertionError when that gives other bytes than the slow path."""
    redactor = Redactor(redact or Redact())
    try:
        found = build_fast_packer(redactor)(made)
    except Exception:
        return False
    assert found == long_way(made, redactor)
    return True


texts = st.text(max_size=30) | st.sampled_from([
    "password=hunter2", "https://jill:secret@example.org/", "Bearer abcdefgh12345678", "token: none", "ſ\u212aey=1",
])  # fmt: skip
names = st.text(string.ascii_lowercase + "_é", min_size=1, max_size=8) | st.sampled_from([
    "password", "session_count", "message", "asctime", "taskName", "trakerr", "jkool", "_shipper_sent", "K" * 300,
])  # fmt: skip
values = (
    texts | st.integers() | st.floats() | st.booleans() | st.none() | st.binary(max_size=9)
    | st.lists(texts, max_size=2) | st.dictionaries(names, texts, max_size=2) | st.text(min_size=900, max_size=1100)
)  # fmt: skip
own = st.dictionaries(
    st.sampled_from([
        "name", "levelno", "levelname", "pathname", "lineno", "funcName", "created", "process", "processName", "thread",
        "threadName", "exc_info", "exc_text", "stack_info",
    ]),
    values,
    max_size=2,
)  # fmt: skip
redacts = st.sampled_from([
    Redact(), Redact(enabled=False), Redact(keys=("fish",)), Redact(patterns=(r"a\w+",)), Redact(allow=("password",)),
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(texts, st.dictionaries(names, values, max_size=4), own), min_size=1, max_size=4), redacts)
def test_the_fast_path_packs_the_same_bytes_as_the_slow_path(made: list[Any], redact: Redact) -> None:
    redactor = Redactor(redact)
    pack_fast = build_fast_packer(redactor)

    for message, extra, changed in made:
        one = record("%s", (message,), **{**extra, **changed})
        for _ in range(2):  # before and after its origin and keys are cached
            try:
                found = pack_fast(one)
            except Exception:
                break
            assert found == long_way(one, redactor)


@pytest.mark.parametrize(
    "made",
    [
        record(),
        record("order %d processed for %s in %.2f ms", (1, "a", 2.5)),
        record("%(a)s", ({"a": 1},)),
        record("for password=hunter2", note="Bearer abcdefgh12345678", amount=3),
        record("ünï\udcff", amount=12.5, count=-1, large=2**63, nothing=None, yes=True, region="ü"),
        record("formatted before", message="formatted before", asctime="now"),
    ],
)
def test_a_usual_record_takes_the_fast_path(made: logging.LogRecord) -> None:
    assert takes_fast_path(made)


@pytest.mark.parametrize(
    "made",
    [
        record(exc_info=(ValueError, ValueError("x"), None)),
        record(exc_text="Traceback ..."),
        record({"event": "x"}),
        record(OrderedDict(event="x")),
        record(stack_info="Stack ..."),
        record(password="hunter2"),
        record(items=[1, 2]),
        record(huge=2**64),
        record("%d", ("x",)),
        record("x" * (MAX_EVENT + 1)),
        record("ü" * (MAX_EVENT // 2)),
        record(created="yesterday"),
        record(lineno=-1),
        record(levelno="INFO"),
        record(_shipper_sent=("", ())),
        record(**{f"key{number}": number for number in range(60)}),
        logging.makeLogRecord({"name": None}),
    ],
)
def test_any_other_record_takes_the_slow_path(made: logging.LogRecord) -> None:
    assert not takes_fast_path(made)


def test_the_fast_path_masks_nothing_when_masking_is_off() -> None:
    assert takes_fast_path(record("password=hunter2", password="hunter2"), Redact(enabled=False))
    assert b"hunter2" in build_fast_packer(Redactor(Redact(enabled=False)))(record("password=hunter2"))


def test_the_fast_path_packs_the_name_of_the_asyncio_task() -> None:
    async def log() -> bytes:
        return build_fast_packer(Redactor(Redact()))(record())

    async def tasks() -> bytes:
        return await asyncio.create_task(log(), name="checkout")

    assert unpack(asyncio.run(tasks())).task == "checkout"


def test_the_caches_of_the_fast_path_are_bounded() -> None:
    pack_fast = build_fast_packer(Redactor(Redact()))
    tracemalloc.start()
    try:
        for number in range(5000):
            pack_fast(record(threadName=f"Thread-{number}", lineno=number, **{f"key{number}": number}))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 1_500_000


def test_an_object_that_is_no_log_record_takes_the_slow_path() -> None:
    with pytest.raises((AttributeError, FastPathUnavailable, KeyError)):
        build_fast_packer(Redactor(Redact()))(object())  # type: ignore[arg-type]


def test_a_getmessage_that_was_replaced_before_the_import_formats_messages() -> None:
    program = """
import functools, logging, sys
plain = logging.LogRecord.getMessage
logging.LogRecord.getMessage = functools.wraps(plain)(lambda record: record.msg.format(*record.args))
from shipper.event.codec import unpack
from shipper.event.redact import Redact, Redactor
from shipper.application.capture.fast_path import build_fast_packer
record = logging.LogRecord("shop", 20, "/a.py", 1, "order {}", (17,), None, "f")
print(unpack(build_fast_packer(Redactor(Redact()))(record)).message)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert run.stdout == "order 17\n"
