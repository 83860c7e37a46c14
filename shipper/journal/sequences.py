"""Which events of one process have come: its sequence numbers, and the frames of events that are not whole.

A process numbers its events 0, 1, 2, ... A number that never comes is an event that the process dropped, or that died
with it. Used by the `Account`, and saved in its file.
"""

from __future__ import annotations

import bisect
import itertools
from operator import itemgetter
from typing import Any

from ..transport import frame
from ..transport.drops import Drops

MAX_RANGES = 2048
MAX_OPEN = 64  # remembered events of which only some frames have come


class SequenceTracker:
    """What is known of one writing process. ``pid`` 0: not known, or alive, so that its drops are noted again."""

    __slots__ = ("drops", "folded", "mark", "open", "pid", "ranges", "seen")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen = 0  # events, each counted once
        self.ranges: list[list[int]] = []  # the numbers that have come, sorted: [first, end)
        self.folded = 0  # missing numbers whose ranges are not remembered any more
        self.drops: Drops = {}
        self.mark: tuple[int, int, int] | None = None  # the last mark: its number, and the place after it
        self.open: dict[int, set[int]] = {}  # number → the parts that have come, of events that are not whole

    @classmethod
    def of(cls, saved: dict[str, Any]) -> SequenceTracker:
        """Restore what `saved` returned. KeyError, TypeError, ValueError and the like for anything else."""
        tracker = cls(int(saved["pid"]))
        tracker.ranges = [[int(first), int(end)] for first, end in saved["ranges"]]
        tracker.drops = parse_drops(saved["drops"])
        tracker.folded = int(saved["folded"])
        tracker.seen = int(saved["seen"])
        tracker.open = {int(seq): set(map(int, parts)) for seq, parts in saved.get("open", {}).items()}
        if saved.get("mark"):
            number, segment, offset = map(int, saved["mark"])
            tracker.mark = (number, segment, offset)
        borders = [border for known in tracker.ranges for border in known]
        if borders != sorted(set(borders)) or min([tracker.folded, tracker.seen, *borders]) < 0:
            raise ValueError("not sorted ranges of numbers")
        return tracker

    def saved(self) -> dict[str, Any]:
        """Return everything as a dict for JSON, which `of` reads."""
        return {
            "pid": self.pid,
            "ranges": self.ranges,
            "drops": self.drops,
            "folded": self.folded,
            "seen": self.seen,
            "mark": self.mark,
            "open": {seq: sorted(parts) for seq, parts in self.open.items()},
        }

    def add(self, seq: int) -> bool:
        """Note an event; return False when it had come already."""
        ranges = self.ranges
        if ranges and ranges[-1][1] == seq:
            ranges[-1][1] = seq + 1
            return True
        at = bisect.bisect_right(ranges, seq, key=itemgetter(0))
        before = ranges[at - 1] if at else [-1, -1]
        after = ranges[at] if at < len(ranges) else [-1, -1]
        if before[1] > seq:
            return False
        if before[1] == seq and after[0] == seq + 1:
            before[1] = after[1]
            del ranges[at]
        elif before[1] == seq:
            before[1] = seq + 1
        elif after[0] == seq + 1:
            after[0] = seq
        else:
            ranges.insert(at, [seq, seq + 1])
            self._fold_if_many()
        return True

    def add_part(self, view: frame.FrameView) -> None:
        """Note a frame of an event that has several."""
        if view.part and view.seq not in self.open:
            return
        parts = self.open.setdefault(view.seq, set())
        parts.add(view.part)
        if len(parts) == view.parts:
            del self.open[view.seq]
        elif len(self.open) > MAX_OPEN:
            del self.open[next(iter(self.open))]

    def has(self, seq: int, part: int) -> bool:
        """Whether this frame of an event has come."""
        if seq in self.open:
            return part in self.open[seq]
        at = bisect.bisect_right(self.ranges, seq, key=itemgetter(0))
        return at > 0 and self.ranges[at - 1][1] > seq

    def _fold_if_many(self) -> None:
        """When there are too many ranges, make the older half one, and keep only how many numbers it misses."""
        if len(self.ranges) <= MAX_RANGES:
            return
        half = self.ranges[: MAX_RANGES // 2]
        self.folded += sum(after[0] - before[1] for before, after in itertools.pairwise(half))
        self.ranges[: len(half)] = [[half[0][0], half[-1][1]]]

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The numbers below the highest that have not come, as ranges [first, end)."""
        ends = [0, *(end for _, end in self.ranges)]
        return [(end, first) for end, (first, _) in zip(ends, self.ranges, strict=False) if first > end]

    @property
    def missing(self) -> int:
        """How many numbers below the highest have not come."""
        return self.folded + sum(end - first for first, end in self.gaps)


class ExactTracker(SequenceTracker):
    """Remembers every gap, however many there are."""

    __slots__ = ()

    def _fold_if_many(self) -> None:
        pass


def parse_counts(saved: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in saved.items()}


def parse_drops(saved: dict[str, Any]) -> Drops:
    return {str(reason): parse_counts(levels) for reason, levels in saved.items()}


def add_drops(total: Drops, more: Drops) -> None:
    """Add drops to a total, by reason and level."""
    for reason, levels in more.items():
        into = total.setdefault(reason, {})
        for level, count in levels.items():
            into[level] = into.get(level, 0) + count
