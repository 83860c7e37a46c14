"""SHIPPER_REDACT_PATTERNS holds one regular expression per line, or a JSON list; a comma does not separate them."""

from __future__ import annotations

import json

import pytest

import shipper
from shipper.config.environment import resolve

VARIABLE = "SHIPPER_REDACT_PATTERNS"


def patterns(text: str) -> tuple[str, ...]:
    return resolve((shipper.JKool("t"),), {"app": "a"}, {VARIABLE: text}).redact.patterns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\b\d{13,16}\b", (r"\b\d{13,16}\b",)),
        ("C-\\d+\n\n  D-\\d{2,3}\r\n", (r"C-\d+", r"D-\d{2,3}")),
        (json.dumps([r"a, b", r"\d{2,}"]), ("a, b", r"\d{2,}")),
        (r"Smith[,] John", (r"Smith[,] John",)),
        (r"Smith\, John", (r"Smith\, John",)),
        (r"[A-Z]{2}\d+", (r"[A-Z]{2}\d+",)),
    ],
)
def test_each_line_or_item_is_one_pattern(text: str, expected: tuple[str, ...]) -> None:
    assert patterns(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r"C-\d+,D-\d+", "one regular expression per line"),
        ('["a", 5]', "JSON list of texts"),
        ("(", "SHIPPER_REDACT_PATTERNS"),
        ("(a+)+$", "explode"),
        ("a*", "empty text"),
    ],
)
def test_what_cannot_be_right_is_refused(text: str, said: str) -> None:
    with pytest.raises(shipper.ConfigurationError, match=said):
        patterns(text)
