"""A backend's place in the journal: read a batch, settle, commit.

This face is what a backend needs of any log, local or distributed.

Events are read in the order of logging. Only while a backend that takes events has a long backlog, the errors that come
from then on go an express lane: a second window, from the end that the journal had when it began. What both have
settled is one file and one count.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..spool.files import read_json, write_atomically
from ..transport import frame
from ..transport.drops import level_name
from ..transport.shared_file import process_is_gone
from .segments import segment_path, segments
from .window import DELIVERED, LOST, Entry, Window, settle
from .writer import Position, Reader

BACKLOG = 16 * 1024 * 1024  # bytes not read yet from which on new errors need not wait for them
LOOK = 0.5  # seconds between two looks at how many there are


class _Lane(NamedTuple):
    """The events of at least this level that begin in this stretch of the journal are settled, and counted."""

    start: Position
    end: Position
    level: int

    def holds(self, position: Position, level: int) -> bool:
        return level >= self.level and self.start <= position < self.end


class Cursor:
    """How far one backend has come: a position that never passes an event which is not settled, and counters up to it.

    Position and counters are one file that is replaced at once, so that after any crash they belong together: an event
    is counted exactly once, however often it was sent.
    """

    def __init__(
        self,
        path: str,
        folder: str,
        *,
        level: int = 0,
        backlog: int = BACKLOG,
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[int], bool] = process_is_gone,
    ) -> None:
        self._path = path
        self._folder = folder
        self._level = frame.clip(level)
        self._backlog = backlog
        self._clock = clock
        self._gone = gone
        self.base = -1  # events from before this cursor was made, none of its business; -1: not counted yet
        self.counts: dict[str, int] = {}
        self.dropped: dict[str, dict[str, int]] = {}
        self._lane: _Lane | None = None  # while there are events before its end that it does not hold
        self._express: Window | None = None  # while it goes on
        self._is_express_turn = False
        self._looked = float("-inf")
        self._delivered = 0  # when we looked last
        self._main = self._window(self._load())
        self._go_on_with_lane()
        self._saved: object = self._places

    def _window(self, position: Position) -> Window:
        return Window(self._folder, position, level=self._level, clock=self._clock, gone=self._gone)

    def _load(self) -> Position:
        saved = read_json(self._path) or {}
        with contextlib.suppress(TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
            position = _place(saved)
            self.counts = {str(name): int(count) for name, count in saved["counts"].items()}
            self.dropped = {str(k): {str(a): int(b) for a, b in v.items()} for k, v in saved["dropped"].items()}
            self.base = int(saved["base"])
            lane = saved.get("lane")
            self._lane = _Lane(_place(lane["start"]), _place(lane["end"]), int(lane["level"])) if lane else None
            return position
        # Its file is gone or damaged: rather everything again, under the same ids, than anything not at all.
        self.counts, self.dropped, self.base, self._lane = {}, {}, -1, None
        first = segments(self._folder)
        return Position(first[0] if first else 1, 0)

    def count_from(self, came: int) -> None:
        """Settle `base`, given how many events came before the journal's end."""
        if self.base < 0:
            self.base = max(0, came - _events_after(self._folder, self.position) - self.settled)
            self._save()

    @property
    def position(self) -> Position:
        """Everything before it is settled."""
        return self._main.position

    @property
    def position_read(self) -> Position:
        """How far events were taken in the order of logging, settled or not."""
        return self._main.position_read

    @property
    def settled(self) -> int:
        """How many events are settled, and counted."""
        return sum(self.counts.values())

    @property
    def urgent(self) -> bool:
        """Whether a mark was read since it was last set to False: somebody waits for what stands before it."""
        return any(window.urgent for window in self._windows)

    @urgent.setter
    def urgent(self, value: bool) -> None:
        for window in self._windows:
            window.urgent = value

    def hurry_up(self, alone: bool, *, held_up: bool = False) -> None:
        """Whether nobody is left who could finish an event, and whether the rest of one can't get into the journal."""
        for window in self._windows:
            window.nobody_writes = alone
            if held_up:
                window.held_up_at = self._clock()

    @property
    def _windows(self) -> tuple[Window, ...]:
        return (self._main,) if self._express is None else (self._main, self._express)

    # -- reading -----------------------------------------------------------------------------------------------------

    def read(self, most: int, max_bytes: int) -> list[Entry]:
        """The next events to deliver, at most so many and about so many bytes. Those below the level settle at once.
        OSError when the journal can't be read now."""
        self._look_at_the_backlog()
        if self._express is None or self._lane is None:
            return self._main.read(most, max_bytes)
        entries = self._read_express(self._express, self._lane, most, max_bytes)
        try:
            entries += self._main.read(most - len(entries), max_bytes, self._lane.end)
            if self._main.reached >= self._lane.end:
                self._merge(self._express)
                entries += self._main.read(most - len(entries), max_bytes)
        except OSError:
            if not entries:  # they are taken, and nobody else has them
                raise
        return entries

    def _read_express(self, express: Window, lane: _Lane, most: int, max_bytes: int) -> list[Entry]:
        """At most half of what is wanted, and every other single one: the backlog must get on too."""
        self._is_express_turn = not self._is_express_turn
        share = most // 2 if most > 1 else int(self._is_express_turn)
        entries = express.read(share, max_bytes // 2)
        self._lane = lane._replace(end=express.position)
        return entries

    def _look_at_the_backlog(self) -> None:
        """Begin a lane when the backend takes events, and many stand before those that come now."""
        if self._lane is not None or self.base < 0 or self._clock() - self._looked < LOOK:
            return
        self._looked = self._clock()
        before, self._delivered = self._delivered, self.counts.get(DELIVERED, 0)
        if self._delivered > before and self._main.unread > self._backlog:
            end = self._main.end
            self._lane = _Lane(end, end, max(self._level, logging.ERROR))
            self._go_on_with_lane()

    def _go_on_with_lane(self) -> None:
        lane = self._lane
        if lane is None:
            return
        if not self.position < lane.end or _size(self._folder, lane.end.segment) < lane.end.offset:
            # Passed, or of a journal that was cut since: what comes in the cut part's place must not be taken for it.
            self._lane = None
            return
        self._main.elsewhere = lambda position, level: self._lane is not None and self._lane.holds(position, level)
        self._express = self._window(lane.end)
        self._express.elsewhere = lambda position, level: level < lane.level
        self._express.nobody_writes = self._main.nobody_writes
        self._express.held_up_at = self._main.held_up_at

    def _merge(self, express: Window) -> None:
        """The backlog is read up to where the lane is: one window goes on with what both have in hand."""
        self._main.adopt(express.whole())
        express.close()
        self._express = None

    # -- settling ----------------------------------------------------------------------------------------------------

    def settle(self, entry: Entry, outcome: str) -> None:
        """Say what became of an event: DELIVERED, FILTERED, DEAD, INCOMPLETE or QUOTA."""
        settle(entry, outcome)

    def commit(self, *, save: bool = True) -> None:
        """Count what is settled without a gap, and make it durable, or leave that to a later commit: what was not saved
        is sent again after a crash. OSError when the disk is full: try again later."""
        self._count(self._main)
        self._count_express()
        if self._lane is not None and self._express is None and self.position >= self._lane.end:
            self._lane = None
            self._main.elsewhere = None
        if save and not self.is_saved:
            self._save()

    @property
    def is_saved(self) -> bool:
        return self._places == self._saved

    @property
    def _places(self) -> object:
        return self.position, self._lane

    def _count_express(self) -> None:
        if self._express is not None and self._lane is not None:
            self._count(self._express)
            self._lane = self._lane._replace(end=self._express.position)

    def _count(self, window: Window) -> None:
        for entry in window.settled():
            outcome = entry.outcome or ""
            self.counts[outcome] = self.counts.get(outcome, 0) + entry.weight
            if outcome in LOST:
                levels = self.dropped.setdefault(outcome, {})
                levels[level_name(entry.level)] = levels.get(level_name(entry.level), 0) + entry.weight

    def _save(self) -> None:
        lane = self._lane
        data = {**self.position._asdict(), "base": self.base, "counts": self.counts, "dropped": self.dropped}
        if lane is not None:
            data["lane"] = {"start": lane.start._asdict(), "end": lane.end._asdict(), "level": lane.level}
        places = self._places
        write_atomically(self._path, data)
        self._saved = places

    def skip_to(self, segment: int) -> None:
        """Give up what stands before `segment`, because of the quota; each event is counted under its level.

        Call `commit` afterwards. Entries in hand that are not settled yet are given up too.
        """
        if self._express is not None:
            self._express.skip_to(segment)
            self._count_express()
        self._main.skip_to(segment)

    def close(self) -> None:
        for window in self._windows:
            window.close()


def _place(saved: dict[str, Any]) -> Position:
    position = Position(int(saved["segment"]), int(saved["offset"]))
    if min(position) < 0:
        raise ValueError("no place in a journal")
    return position


def _size(folder: str, segment: int) -> int:
    try:
        return os.stat(segment_path(folder, segment)).st_size
    except OSError:
        return 0


def _events_after(folder: str, position: Position) -> int:
    reader = Reader(folder, position)
    count = 0
    while (stretch := reader.read()) is not None:
        count += sum(not view.part and not view.flags for view in stretch.scan.frames)
    reader.close()
    return count
