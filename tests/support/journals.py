"""Frames and segments for the tests of the journal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shipper.journal.cursors.cursor import Cursor
from shipper.journal.entry import DELIVERED
from shipper.journal.reader import Reader
from shipper.journal.segments import Position, segment_path
from shipper.transport import frame

TOKEN = b"tokentok"
MUCH = 10**9
BEHIND_ALL = Position(1 << 40, 0)
"""A position behind all events of a test."""


def frames(payload: bytes, seq: int, *, level: int = 20, token: bytes = TOKEN, pid: int = 1) -> list[bytes]:
    return frame.encode(payload, token=token, seq=seq, pid=pid, level=level)


def whole(payload: bytes, seq: int, *, level: int = 20) -> bytes:
    return b"".join(frames(payload, seq, level=level))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


Open = Callable[..., Cursor]


def segment(spool: Path, number: int, data: bytes) -> None:
    path = Path(segment_path(str(spool), number))
    path.write_bytes(data)
    path.chmod(0o600)


def deliver(cursor: Cursor, most: int = MUCH) -> list[int]:
    entries = cursor.read(most, MUCH)
    for entry in entries:
        cursor.settle(entry, DELIVERED)
    cursor.commit()
    return [entry.id.seq for entry in entries]


def read_seqs(reader: Reader) -> list[int]:
    """The sequence numbers of the frames in the next stretch."""
    stretch = reader.read()
    return [] if stretch is None else [view.seq for view in stretch.scan.frames]
