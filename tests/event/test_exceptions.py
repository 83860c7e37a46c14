"""Exceptions become plain data, with their frames, notes, causes, contexts and group members."""

from __future__ import annotations

from typing import Any

import pytest

from shipper.application.capture.record import from_record
from shipper.event.codec import unpack
from shipper.event.exceptions import MAX_EXCEPTIONS, MAX_FRAMES, ExceptionInfo, Frame, capture_exceptions
from shipper.event.truncate import pack

from ..support.oddities import Group, a_deep_one, a_record, caught, fails


def test_an_exception_has_type_message_and_frames() -> None:
    event = from_record(a_record("hi", exc_info=caught(lambda: [][1])))

    (only,) = event.exceptions
    assert (only.relation, only.type, only.name) == ("raised", "builtins.IndexError", "IndexError")
    assert only.message == "list index out of range"
    assert [frame.function for frame in only.frames] == ["caught", "<lambda>"]
    assert [frame.file for frame in only.frames] == [caught.__code__.co_filename, __file__]
    assert all(frame.line > 0 for frame in only.frames)
    assert unpack(pack(event)) == event


def test_the_type_names_module_and_class() -> None:
    class Inner(Exception):
        pass

    found = capture_exceptions(Inner())[0]

    assert found.type == f"{__name__}.test_the_type_names_module_and_class.<locals>.Inner"
    assert found.name == "Inner"


def test_causes_contexts_and_members_follow_the_exception() -> None:
    cause = ValueError("cause")
    cause.__context__ = KeyError("context of the cause")
    member = OSError("member")
    member.__cause__ = EOFError("cause of the member")
    group = Group("group", [member, TypeError("other member"), "no exception"])
    group.__cause__ = cause

    found = [(one.relation, one.message, one.parent) for one in capture_exceptions(group)]

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

    assert len(capture_exceptions(exc)) == 1


@pytest.mark.parametrize("nothing", [None, False, (None, None, None), (), (ValueError,), 17, "text", []])
def test_what_is_no_exc_info_gives_no_exceptions(nothing: object) -> None:
    found = [one.type for one in capture_exceptions(nothing)]

    assert found == (["builtins.ValueError"] if nothing == (ValueError,) else [])
    assert unpack(pack(from_record(a_record("hi", exc_info=nothing)))).message == "hi"


def test_true_means_the_exception_that_is_being_handled() -> None:
    assert capture_exceptions(True) == []

    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        found = capture_exceptions(True)

    assert [one.type for one in found] == ["builtins.KeyboardInterrupt"]


def test_an_exc_info_triple_may_lack_its_traceback() -> None:
    exc = caught(fails(ValueError("bad")))
    never_raised = ValueError("bad")

    for triple in ((ValueError, exc, None), [ValueError, exc, exc.__traceback__]):
        assert capture_exceptions(triple) == capture_exceptions(exc)
    only = ExceptionInfo("raised", "builtins.ValueError", "ValueError", "bad")
    assert capture_exceptions((ValueError, never_raised, None)) == [only]


def test_notes_are_kept() -> None:
    exc = ValueError("bad")
    exc.__notes__ = ["first", 2, *map(str, range(100))]  # type: ignore[attr-defined]

    notes = capture_exceptions(exc)[0].notes

    assert notes[:2] == ["first", "2"]
    assert notes[-1] == "[... 82 notes left out ...]"


def test_an_exception_loop_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert [found.message for found in capture_exceptions(one)] == ["one", "other"]


def test_at_most_twenty_exceptions_are_kept() -> None:
    found = capture_exceptions(Group("many", [ValueError(n) for n in range(50)]))

    assert len(found) == MAX_EXCEPTIONS
    assert found[0].notes == ["[... 31 or more exceptions left out ...]"]


def test_the_middle_of_a_long_traceback_is_cut() -> None:
    frames = capture_exceptions(a_deep_one(897))[0].frames

    assert len(frames) == MAX_FRAMES
    assert frames[50] == Frame("[... 801 frames left out ...]", 0, "")
    assert frames[0].function == "caught"
    assert frames[-1].function == "dive"


def test_an_exception_whose_str_raises_gets_a_marker() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise KeyError

        @property
        def exceptions(self) -> object:
            raise OSError

        @property
        def __notes__(self) -> object:
            raise OSError

    found = capture_exceptions(Hostile())[0]

    assert found.message == "<unrepresentable Hostile: KeyError>"
    assert (found.name, found.notes) == ("Hostile", [])


def test_an_exception_whose_cause_raises_gets_a_marker() -> None:
    class Hostile(Exception):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise OSError

    event = from_record(a_record("hi", exc_info=Hostile("bad")))

    assert event.message == "hi"
    assert event.exceptions[0].message == "<unreadable exception: OSError>"


def test_the_message_with_notes_ends_as_a_traceback_does() -> None:
    noted = ExceptionInfo("raised", "builtins.ValueError", "ValueError", "bad amount", notes=["order 17", "customer 5"])

    assert noted.message_and_notes == "bad amount\norder 17\ncustomer 5"
    assert ExceptionInfo("raised", "builtins.ValueError", "ValueError", "bad").message_and_notes == "bad"
