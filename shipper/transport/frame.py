"""Frames: an event's bytes in the pipe, in overflows and mirrors, and in the journal.

Invariants
* A frame is at most `select.PIPE_BUF` bytes, so that one `write(2)` writes all of it or nothing.
* A larger event becomes several frames with the same token and sequence number.
* A reader finds the next valid frame behind any damage, and never takes the content of an event for a frame.

Layout, little-endian:

    magic 4 · version 1 · flags 1 · level 2 · part 2 · parts 2 · length 2 · token 8 · sequence 8 · pid 4 · CRC32 4
    then the payload

The CRC covers everything before it and the payload. Processes of the application encode frames; the journal's readers,
the account and recovery decode them.
"""

from __future__ import annotations

import functools
import select
import struct
import sys
import zlib
from typing import NamedTuple

MAGIC = b"\xf5shp"
VERSION = 1
HEADER = struct.Struct("<4sBBHHHH8sQII")
MAX_FRAME = select.PIPE_BUF
MAX_PAYLOAD = MAX_FRAME - HEADER.size
MAX_LEVEL = 0xFFFF

EVENT = 0
MARK = 1
"""A mark carries no event: its sequence number is the number of the flush that wrote it."""

_COVERED = HEADER.size - 4
_BEFORE_CRC = struct.Struct("<4sBBHHHH8sQI")
_CRC = struct.Struct("<I")


class FrameView(NamedTuple):
    """A whole, valid frame in a buffer: `start` and `end` are offsets; the payload ends at `end`."""

    start: int
    end: int
    flags: int
    level: int
    part: int
    parts: int
    token: bytes
    seq: int
    pid: int

    @property
    def payload_start(self) -> int:
        return self.start + HEADER.size


class Scan(NamedTuple):
    """What a buffer holds: its frames, the damaged ranges between them, and the offset up to which it was read."""

    frames: list[FrameView]
    damage: list[tuple[int, int]]
    consumed: int


def clip(level: int) -> int:
    """The level as a frame carries it, limited to 0 to 65535."""
    return min(max(level, 0), MAX_LEVEL)


def encode(payload: bytes, *, token: bytes, seq: int, pid: int, level: int = 0, flags: int = EVENT) -> list[bytes]:
    """The frames of one event, in order. The level is limited as by `clip`."""
    if not 0 <= level <= MAX_LEVEL:
        level = clip(level)
    pieces = [payload[i : i + MAX_PAYLOAD] for i in range(0, len(payload), MAX_PAYLOAD)] or [payload]
    return [single(piece, flags, level, i, len(pieces), token, seq, pid) for i, piece in enumerate(pieces)]


def single(payload: bytes, flags: int, level: int, part: int, parts: int, token: bytes, seq: int, pid: int) -> bytes:
    """One frame; the values must be in range."""
    head = _BEFORE_CRC.pack(MAGIC, VERSION, flags, level, part, parts, len(payload), token, seq, pid)
    return b"".join((head, _CRC.pack(zlib.crc32(payload, zlib.crc32(head))), payload))


def length(buffer: bytes, start: int = 0) -> int | None:
    """Return the length, with header, of the frame at ``start``; None without a header. The CRC is not checked."""
    if len(buffer) - start < HEADER.size or not buffer.startswith(MAGIC, start):
        return None
    size: int = HEADER.unpack_from(buffer, start)[6]
    return HEADER.size + size


def scan(buffer: bytes, *, complete: bool = False, growing: bool = False) -> Scan:
    """Find all frames in a buffer. An incomplete one at its end is left for the next call unless `complete` is set.

    With `growing`, more bytes are certain to come: then nothing inside an incomplete frame is taken for a frame, since
    an event may contain bytes that look like one. Otherwise a valid frame inside it shows that its rest will not come.
    """
    frames: list[FrameView] = []
    damage: list[tuple[int, int]] = []
    position = 0
    end = len(buffer)
    while (position := _whole_frames(buffer, position, frames)) < end:
        if growing and _may_become_a_frame(buffer, position):
            break
        found = _next_frame(buffer, position + 1, growing)
        if found is None and not complete and _may_become_a_frame(buffer, position):
            break
        stop = end if found is None and complete else _resume(buffer, position, found)
        damage.append((position, stop))
        position = stop
    return Scan(frames, _joined(damage), position)


def _whole_frames(buffer: bytes, start: int, found: list[FrameView], most: int = sys.maxsize) -> int:
    """Append the whole, valid frames that follow each other from ``start`` to ``found``; return where they end.

    Hot path: it runs for every event and each reader, so it is one loop with few calls.
    """
    end, before_body, covered = len(buffer), HEADER.size, _COVERED
    unpack, crc32, view = HEADER.unpack_from, zlib.crc32, functools.partial(tuple.__new__, FrameView)
    while start <= end - before_body and len(found) < most:
        magic, version, flags, level, part, parts, size, token, seq, pid, crc = unpack(buffer, start)
        body = start + before_body
        stop = body + size
        if magic != MAGIC or version != VERSION or size > MAX_PAYLOAD or part >= parts or stop > end:
            break
        if crc32(buffer[body:stop], crc32(buffer[start : start + covered])) != crc:
            break
        found.append(view((start, stop, flags, level, part, parts, token, seq, pid)))
        start = stop
    return start


def _next_frame(buffer: bytes, start: int, growing: bool) -> int | None:
    """Return where the next frame begins that is, or with ``growing`` may become, whole. Used after damage only."""
    at = buffer.find(MAGIC, start)
    while at >= 0:
        if _whole_frames(buffer, at, [], most=1) > at or (growing and _may_become_a_frame(buffer, at)):
            return at
        at = buffer.find(MAGIC, at + 1)
    return None


def _may_become_a_frame(buffer: bytes, start: int) -> bool:
    head = buffer[start : start + HEADER.size]
    if not head.startswith(MAGIC[: len(head)]):
        return False
    if len(head) < HEADER.size:
        return True
    version, size = head[4], HEADER.unpack(head)[6]
    return version == VERSION and size <= MAX_PAYLOAD and start + HEADER.size + size > len(buffer)


def _resume(buffer: bytes, start: int, found: int | None) -> int:
    """Return where damage ends: at the frame ``found``, else where one may become whole, else at the buffer's end."""
    if found is not None:
        return found
    at = buffer.find(MAGIC[:1], start + 1)
    while at >= 0:
        if _may_become_a_frame(buffer, at):
            return at
        at = buffer.find(MAGIC[:1], at + 1)
    return len(buffer)


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
