"""Frames: round trips, damage of every kind, and what they cost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.transport import frame

TOKEN = b"tokentok"


def one(payload: bytes, seq: int = 1) -> bytes:
    return b"".join(frame.encode(payload, token=TOKEN, seq=seq, pid=7, level=20))


def payloads(buffer: bytes, found: frame.Scan) -> list[bytes]:
    return [buffer[view.payload_start : view.end] for view in found.frames]


def seqs(found: frame.Scan) -> list[int]:
    return [view.seq for view in found.frames]


@pytest.mark.parametrize(
    "size", [0, 1, frame.MAX_PAYLOAD - 1, frame.MAX_PAYLOAD, frame.MAX_PAYLOAD + 1, 3 * frame.MAX_PAYLOAD, 262_144]
)
def test_an_event_of_any_size_comes_back_from_its_frames(size: int) -> None:
    payload = (b"0123456789" * (size // 10 + 1))[:size]

    frames = frame.encode(payload, token=TOKEN, seq=5, pid=7, level=40)
    found = frame.scan(b"".join(frames))

    assert all(len(each) <= frame.MAX_FRAME for each in frames)
    assert b"".join(payloads(b"".join(frames), found)) == payload
    assert [(view.part, view.parts) for view in found.frames] == [(i, len(frames)) for i in range(len(frames))]
    assert {(view.token, view.seq, view.pid, view.level) for view in found.frames} == {(TOKEN, 5, 7, 40)}
    assert found.damage == []


@given(st.lists(st.binary(max_size=200), max_size=8), st.data())
def test_a_stream_is_decoded_however_it_is_split(events: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(one(event, seq) for seq, event in enumerate(events))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))

    seen: list[bytes] = []
    rest = b""
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        rest += stream[start:stop]
        found = frame.scan(rest, growing=True)
        assert found.damage == []
        seen += payloads(rest, found)
        rest = rest[found.consumed :]

    assert seen == events
    assert rest == b""


@given(
    st.lists(st.binary(max_size=100), min_size=1, max_size=6),
    st.sampled_from(["flip", "cut", "insert", "half", "foreign"]),
    st.data(),
)
def test_damage_loses_only_the_frame_that_it_hits(events: list[bytes], kind: str, data: st.DataObject) -> None:
    whole = [one(event, seq) for seq, event in enumerate(events)]
    at = data.draw(st.integers(0, len(whole) - 1))
    hit = whole[at]
    place = data.draw(st.integers(0, len(hit) - 1))
    others = [seq for seq in range(len(whole)) if seq != at]
    if kind == "flip":
        spoilt = hit[:place] + bytes([hit[place] ^ 1 << data.draw(st.integers(0, 7))]) + hit[place + 1 :]
    elif kind == "cut":
        spoilt = hit[:place]
    elif kind == "foreign":
        spoilt = hit[:4] + b"\x02" + hit[5:]
    else:
        others = list(range(len(whole)))
        garbage = data.draw(st.binary(min_size=1, max_size=60)) if kind == "insert" else hit[: max(1, place)]
        spoilt = garbage + hit

    before, after = b"".join(whole[:at]), b"".join(whole[at + 1 :])
    found = frame.scan(before + spoilt + after, complete=True)

    assert seqs(found) == others
    length = len(spoilt) - (len(hit) if kind in ("insert", "half") else 0)
    assert found.damage == ([(len(before), len(before) + length)] if length else [])
    assert found.consumed == len(before + spoilt + after)


@given(st.binary(max_size=500), st.booleans(), st.booleans())
def test_no_bytes_make_a_scan_raise(buffer: bytes, complete: bool, growing: bool) -> None:
    found = frame.scan(frame.MAGIC + buffer, complete=complete, growing=growing and not complete)

    assert 0 <= found.consumed <= len(buffer) + 4
    assert not complete or found.consumed == len(buffer) + 4


def test_an_incomplete_frame_does_not_delay_valid_ones_behind_it() -> None:
    half = one(b"x" * 100)[:54]

    found = frame.scan(half + one(b"good", 2))

    assert seqs(found) == [2]
    assert found.damage == [(0, 54)]


@pytest.mark.parametrize("front", [b"", b"garbage", one(b"before", 8)])
def test_bytes_in_an_event_that_look_like_a_frame_are_not_decoded_while_more_comes(front: bytes) -> None:
    outer = one(b"x" * 50 + one(b"forged", 666) + b"y" * 50, 2)

    for cut in range(len(outer)):
        found = frame.scan(front + outer[:cut], growing=True)
        assert 666 not in seqs(found)
        rest = (front + outer)[found.consumed :]
        assert 666 not in seqs(frame.scan(rest))


def test_an_incomplete_frame_at_the_end_waits_for_its_rest() -> None:
    whole = one(b"payload")

    for cut in range(1, len(whole)):
        assert frame.scan(whole[:cut]) == frame.Scan([], [], 0)
        assert frame.scan(whole[:cut], complete=True) == frame.Scan([], [(0, cut)], cut)


def crowded(header: bytes) -> bytes:
    return header * (1024 * 1024 // len(header))


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(
    "hostile",
    [
        crowded(frame.MAGIC),
        crowded(frame.MAGIC[:1]),
        crowded(one(b"x")[: frame.HEADER.size - 1] + b"?"),
        crowded(one(b"x" * 4000)[: frame.HEADER.size]),
        crowded(one(b"x" * 4000)[:60] + one(b"good")),
    ],
    ids=["magic", "first byte", "bad checksums", "long bad checksums", "halves"],
)
def test_a_mebibyte_of_hostile_bytes_is_scanned_in_linear_time(hostile: bytes, growing: bool) -> None:
    small, start = hostile[: len(hostile) // 16], time.process_time()
    frame.scan(small, growing=growing)
    least = max(time.process_time() - start, 0.01)

    start = time.process_time()
    frame.scan(hostile, growing=growing)

    assert time.process_time() - start < 16 * least * 4


@pytest.mark.parametrize(("level", "clipped"), [(-5, 0), (0, 0), (30, 30), (65_535, 65_535), (10**9, 65_535)])
def test_a_level_is_clipped_to_the_range_of_a_frame(level: int, clipped: int) -> None:
    assert frame.clip(level) == clipped


def test_the_length_of_a_frame_is_read_from_its_header() -> None:
    whole = one(b"payload")

    assert frame.length(whole) == len(whole)
    assert frame.length(b"??" + whole, 2) == len(whole)
    assert frame.length(whole[:10]) is None
    assert frame.length(b"?" + whole) is None
