"""The cursor files: where each backend is in the journal, and what became of its events up to there.

On disk: `<folder>/<backend>.json`, an object as `write_atomically` seals it:

    segment, offset   everything before this place is settled and counted, except unsettled events of the express lane
    base              how many events came before the cursor was made, and are not for it; -1: not counted yet
    counts            outcome → events
    dropped           outcome → level → events, for the outcomes that are losses
    lane              {"start": place, "end": place, "level": number}, see `Span`; only while the cursor has one

The application makes the file of a new backend at `start()`; after that only the `Cursor` in the shipper process writes
it, always as a whole, so that place and counts are of the same moment. Every process may read it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...spool.files import open_file, read_json, seal, sync, write_atomically
from ...transport.drops import Drops
from ..segments import Position, segment_path, segments, unfinished_frame


class Span(NamedTuple):
    """A part of the journal: events of at least ``level`` that begin from ``start`` up to ``end``."""

    start: Position
    end: Position
    level: int

    def holds(self, position: Position, level: int) -> bool:
        return level >= self.level and self.start <= position < self.end


@dataclass
class CursorState:
    """The content of a cursor file."""

    position: Position
    base: int = -1
    counts: dict[str, int] = field(default_factory=dict)
    dropped: Drops = field(default_factory=dict)
    lane: Span | None = None

    def save(self, path: str) -> None:
        """Replace the cursor file. OSError when the disk is full."""
        data: dict[str, Any] = {
            **self.position._asdict(),
            "base": self.base,
            "counts": self.counts,
            "dropped": self.dropped,
        }
        if self.lane is not None:
            start, end, level = self.lane
            data["lane"] = {"start": start._asdict(), "end": end._asdict(), "level": level}
        write_atomically(path, data)


def load_cursor(path: str) -> CursorState | None:
    """What a cursor file says, or None when it is missing or damaged."""
    saved = read_json(path) or {}
    try:
        return CursorState(
            _place(saved),
            int(saved["base"]),
            {str(name): int(count) for name, count in saved["counts"].items()},
            {str(name): {str(a): int(b) for a, b in levels.items()} for name, levels in saved["dropped"].items()},
            _span(saved.get("lane")),
        )
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        return None


def _place(saved: dict[str, Any]) -> Position:
    position = Position(int(saved["segment"]), int(saved["offset"]))
    if min(position) < 0:
        raise ValueError("not a place in a journal")
    return position


def _span(saved: dict[str, Any] | None) -> Span | None:
    return Span(_place(saved["start"]), _place(saved["end"]), int(saved["level"])) if saved else None


def begin_cursor(path: str, folder: str) -> None:
    """Make the cursor file of a new backend, which gets only later events. OSError when it can't be written.

    Called by the application at `start()`, before it logs anything: the shipper process starts later.
    """
    last, offset = _last_border(folder)
    try:
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    # Not by replacing: another worker may have made it first. With a half-written file the backend gets everything.
    text = seal({"segment": last, "offset": offset, "base": -1, "counts": {}, "dropped": {}})
    try:
        os.write(fd, text)
        # Once for each backend: if a power cut took the file, a new one would begin after events that still wait.
        sync(fd)
        _sync_folder(os.path.dirname(path))
    except OSError:  # the disk is full: an empty file would be taken for one that is damaged
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def _last_border(folder: str) -> Position:
    """Return the end of the last whole frame. An event whose first frame is not whole yet is for the new backend, so
    that every event is either before its cursor or after it."""
    last = max(segments(folder), default=1)
    try:
        fd = open_file(segment_path(folder, last), os.O_RDONLY)
    except OSError:  # there is none yet, or a folder or foreign file has its place
        return Position(last, 0)
    try:
        size = os.fstat(fd).st_size
        return Position(last, size - len(unfinished_frame(fd, size)))
    finally:
        os.close(fd)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def saved_positions(folder: str) -> dict[str, dict[str, Any]]:
    """Return the content of the cursor files in a folder, unchecked, by the backends' names."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            data = read_json(os.path.join(folder, name))
            if data is not None:
                found[name[: -len(".json")]] = data
    return found
