"""Masking any text takes no more calls than its length allows; calls are counted, because time varies."""

from __future__ import annotations

import random
import sys

import pytest

from shipper.event.redact import Redact, Redactor
from shipper.event.secrets.effort import BASE, PER_CHARACTER

from .corpora import secret_texts
from .hostile import PIECES, hostile_texts

CALLS_A_UNIT = 20


@pytest.fixture(autouse=True)
def compiled_patterns() -> None:
    """Compile all patterns before the tests count calls: each is compiled at its first use."""
    for texts in secret_texts():
        for text, _ in texts:
            Redactor(Redact()).mask_text(text)


def calls(text: str) -> int:
    """How many calls, of Python and of C, masking the text takes."""
    count = 0

    def profile(frame: object, kind: str, argument: object) -> None:
        nonlocal count
        count += kind in ("call", "c_call")

    redactor = Redactor(Redact())
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        redactor.mask_text(text)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("size", [2000, 20_000, 250_000])
def test_no_hostile_text_takes_more_calls_than_its_length_allows(size: int) -> None:
    allowed = CALLS_A_UNIT * (BASE + PER_CHARACTER * size)

    found = {name: calls(text) for name, text in hostile_texts(size)}

    assert {name: count for name, count in found.items() if count > allowed} == {}


def test_what_is_too_much_is_masked_and_said() -> None:
    text = "".join(f"password=hunter{n} " for n in range(5000))

    found = Redactor(Redact()).mask_text(text)

    assert "hunter" not in found
    assert found.startswith("password=[redacted] password=[redacted] ")
    assert found.endswith(" characters left out ...]")


@pytest.mark.parametrize(
    "piece",
    ["", " ", "order 17 paid by bob in 3 ms\n", "{'id': 17, 'total': 4.5, 'items': ['a', 'b']}, "],
)
def test_a_long_text_without_secrets_stays_whole(piece: str) -> None:
    text = piece * (250_000 // max(1, len(piece)))

    assert Redactor(Redact()).mask_text(text) == text


MIXED = "".join(random.Random(1).choices("cjkpsux", k=100_000))  # first letters of the words in secret keys


@pytest.mark.parametrize("text", ["x" * 100_000, MIXED], ids=["x", "mixed"])
def test_a_long_text_without_spaces_stays_up_to_the_place_where_it_is_too_much(text: str) -> None:
    kept, mask, rest = Redactor(Redact()).mask_text(f"id: {text}").partition("[redacted]")

    assert mask
    assert len(kept) > 10_000
    assert f"id: {text}".startswith(kept)
    assert rest.endswith(" characters left out ...]")


def test_a_long_text_is_not_cut_inside_a_secret() -> None:
    text = f"at ://user:{'x' * 90}@host " * 3000

    found = Redactor(Redact()).mask_text(text)

    assert found.endswith(" characters left out ...]")
    assert "xx" not in found


def test_the_pieces_are_different() -> None:
    assert len(set(PIECES)) == len(PIECES)
