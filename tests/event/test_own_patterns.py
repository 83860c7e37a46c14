"""The user's own patterns: one whose time could explode is refused; the others are called through the guard."""

from __future__ import annotations

import pytest

from shipper.errors import ConfigurationError
from shipper.event.model import Event
from shipper.event.redact import Redact, Redactor
from shipper.event.secrets.own_patterns import compiled

MASK = "[redacted]"


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+$", r"(\w+\s?)*;", r"(x|xx)+y", r"^(\d+)*-$", r"(?:user|us|er)+!", r".*a.*a.*a.*b",
        r"(?:a?){30}a{30}",
    ],
)  # fmt: skip
def test_a_pattern_that_explodes_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redact\.patterns.*explode"):
        Redact(patterns=(pattern,))


@pytest.mark.parametrize(
    "pattern",
    [
        r"\b\d{13,16}\b", r"\bC-\d+\b", r"customer (\w+)", r"(?:\d+-)+\d", r"\w+@\w+",
        r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}", r"BEGIN.*?END", r"(?i)iban: (.*)",
        r"(?s)<secret>.*?</secret>", r"\S+=\S+",
    ],
)  # fmt: skip
def test_a_usual_pattern_is_taken(pattern: str) -> None:
    assert compiled(pattern).pattern == pattern


def test_the_patterns_are_called_through_the_guard() -> None:
    def refuse(text: str) -> str:
        raise RuntimeError("suspended")

    redactor = Redactor(Redact(patterns=(r"C-\d+",)), guard=lambda patterns: refuse)

    with pytest.raises(RuntimeError, match="suspended"):
        redactor(Event(message="C-1"))
