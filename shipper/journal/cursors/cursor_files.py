"""The cursor files: where each backend is in the journal, and what became of its events up to there.

On disk: `<folder>/<backend>.json`, an object as `write_atomically` seals it:

    segment, offset   everything that begins before this place is settled and counted, but for what an open lane holds
    base              events from before the cursor was made, none of its business; -1: not counted yet
    counts            outcome → events
    dropped           outcome → level → events, for the outcomes that are losses
    lane              while there is one: {"start": place, "end": place, "level": number}, see `Span`

The application writes a new one at `start()`; after that only the `Cursor` in the shipper process writes it, whole, so
that place and counts are of one moment. Everybody may read it.
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
        """OSError when the disk is full."""
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
    """Make the cursor file of a new backend, which gets what comes from now on. OSError when it can't be written.

    Called by the application at `start()`, before it logs anything: the shipper process comes later.
    """
    last, offset = _last_border(folder)
    try:
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    # Not by replacing: another worker may have made it first. A half-written one counts as damaged: all from the start.
    text = seal({"segment": last, "offset": offset, "base": -1, "counts": {}, "dropped": {}})
    try:
        os.write(fd, text)
        # Once in a backend's life: without it a power cut would have it begin anew, after what is left for it.
        sync(fd)
        _sync_folder(os.path.dirname(path))
    except OSError:  # the disk is full: an empty file would be taken for one that is damaged
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def _last_border(folder: str) -> Position:
    """The end of the last whole frame. An event whose first frame has not come yet as a whole is for the new backend,
    so that the events before its cursor and those after it are all that there are."""
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
    """What the cursor files in a folder say: backend's name → its file's content, unchecked."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            data = read_json(os.path.join(folder, name))
            if data is not None:
                found[name[: -len(".json")]] = data
    return found
