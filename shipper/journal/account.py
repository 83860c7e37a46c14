"""What came in, process by process: a cursor over the whole journal that counts ids instead of delivering events.

Gaps in a process's sequence are events that it dropped, or that died with it; what its overflow says about drops names
the reason. Position and counts are one file, so that nothing is counted twice after a crash.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
from operator import itemgetter
from typing import Any

from ..spool.files import open_file, read_json, write_atomically
from ..transport import frame
from ..transport.drops import Drops, level_name
from ..transport.shared_file import process_is_gone
from .writer import Frames, Position, Reader

MOST_PROCESSES = 512  # remembered one by one; older ones are added up
MOST_TOLD = 128  # processes that the status speaks of
MOST_RANGES = 2048  # per process
MOST_OPEN = 64  # events of which some frames have come, per process
MOST_DAMAGE = 64 * 1024 * 1024  # bytes of damage kept aside


class _Process:
    """What is known of one writing process: which sequence numbers were seen, as sorted ranges [first, end)."""

    __slots__ = ("drops", "folded", "mark", "open", "pid", "ranges", "seen")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.seen = 0  # how many different ones
        self.ranges: list[list[int]] = []
        self.folded = 0  # missing numbers in ranges that were too many to remember one by one
        self.drops: Drops = {}
        self.mark: tuple[int, int, int] | None = None
        self.open: dict[int, set[int]] = {}  # the parts that have come, of events that are not whole

    @classmethod
    def of(cls, saved: dict[str, Any]) -> _Process:
        """What `Ledger.save` wrote of one. ValueError and its like for anything else."""
        process = cls(int(saved["pid"]))
        process.ranges = [[int(first), int(end)] for first, end in saved["ranges"]]
        process.drops = _drops(saved["drops"])
        process.folded = int(saved["folded"])
        process.seen = int(saved["seen"])
        process.open = {int(seq): set(map(int, parts)) for seq, parts in saved.get("open", {}).items()}
        if saved.get("mark"):
            number, segment, offset = map(int, saved["mark"])
            process.mark = (number, segment, offset)
        borders = [border for known in process.ranges for border in known]
        if borders != sorted(set(borders)) or min([process.folded, process.seen, *borders]) < 0:
            raise ValueError("ranges that are none")
        return process

    def see(self, seq: int) -> bool:
        """Note a sequence number; False when it was there already."""
        ranges = self.ranges
        if ranges and ranges[-1][1] == seq:
            ranges[-1][1] = seq + 1
            return True
        at = len(ranges)
        while at and ranges[at - 1][0] > seq:
            at -= 1
        if at and ranges[at - 1][1] > seq:
            return False
        ranges.insert(at, [seq, seq + 1])
        self._join(max(at - 1, 0))
        if len(ranges) > MOST_RANGES:
            self._fold()
        return True

    def see_part(self, view: frame.FrameView) -> None:
        """Note a frame of an event that has several."""
        if view.part and view.seq not in self.open:
            return
        parts = self.open.setdefault(view.seq, set())
        parts.add(view.part)
        if len(parts) == view.parts:
            del self.open[view.seq]
        elif len(self.open) > MOST_OPEN:
            del self.open[next(iter(self.open))]

    def has(self, seq: int, part: int) -> bool:
        """Whether this frame of the event has come."""
        if seq in self.open:
            return part in self.open[seq]
        at = bisect.bisect_right(self.ranges, seq, key=itemgetter(0))
        return at > 0 and self.ranges[at - 1][1] > seq

    def _fold(self) -> None:
        """Forget where the older half of the gaps lay, and keep how many numbers they were."""
        half = self.ranges[: MOST_RANGES // 2]
        self.folded += sum(after[0] - before[1] for before, after in itertools.pairwise(half))
        self.ranges[: len(half)] = [[half[0][0], half[-1][1]]]

    def _join(self, at: int) -> None:
        ranges = self.ranges
        while at + 1 < len(ranges) and ranges[at][1] >= ranges[at + 1][0]:
            ranges[at][1] = max(ranges[at][1], ranges[at + 1][1])
            del ranges[at + 1]
            if at + 1 < len(ranges) and ranges[at][1] < ranges[at + 1][0]:
                at += 1
        if at + 2 < len(ranges) and ranges[at + 1][1] >= ranges[at + 2][0]:
            self._join(at + 1)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The sequence numbers below the highest that never came, as ranges [first, end)."""
        ends = [0, *(end for _, end in self.ranges)]
        return [(end, first) for end, (first, _) in zip(ends, self.ranges, strict=False) if first > end]

    @property
    def missing(self) -> int:
        return self.folded + sum(end - first for first, end in self.gaps)


class Ledger:
    """Follows the journal's end. Used by one thread of the shipper process."""

    def __init__(self, path: str, folder: str, damaged: str) -> None:
        self._path = path
        self._damaged = damaged
        self._processes: dict[str, _Process] = {}
        self.journaled = 0  # events whose first frame is in the journal, doubles not counted
        self.doubles = 0
        self.corrupt = 0  # stretches of damaged bytes
        self.corrupt_bytes = 0
        self.levels: dict[str, int] = {}
        self._past_drops: Drops = {}
        self._past_missing = 0
        self._reader = Reader(folder, self._load())
        self._reader.clamp()
        self._saved: Position | None = None
        self.durable = self.position  # up to where a crash has nothing counted again

    @property
    def position(self) -> Position:
        return self._reader.position

    @property
    def is_at_end(self) -> bool:
        """Whether everything was counted, but half a frame whose rest will not come, when `follow` came back."""
        return self._reader.is_at_end

    def _load(self) -> Position:
        saved = read_json(self._path) or {}
        try:
            position = Position(int(saved["segment"]), int(saved["offset"]))
            journaled, doubles = int(saved["journaled"]), int(saved["doubles"])
            corrupt, corrupt_bytes = int(saved["corrupt"]), int(saved["corrupt_bytes"])
            levels, past_drops = _counts(saved["levels"]), _drops(saved["past_drops"])
            past_missing = int(saved["past_missing"])
            processes = {str(token): _Process.of(known) for token, known in saved["processes"].items()}
            if min(*position, journaled, doubles, corrupt, corrupt_bytes, past_missing) < 0:
                raise ValueError("less than nothing")
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            return Position(1, 0)  # its file is gone or damaged: what is still there is counted again
        self.journaled, self.doubles = journaled, doubles
        self.corrupt, self.corrupt_bytes = corrupt, corrupt_bytes
        self.levels, self._past_drops, self._past_missing = levels, past_drops, past_missing
        self._processes = processes
        return position

    def follow(self, most: int = 64, *, ended: bool = False) -> bool:
        """Count what has come since, at most so many stretches; whether anything was there. `ended`: see `Reader`."""
        for turn in range(most):
            stretch = self._reader.read(ended=ended)
            if stretch is None:
                return turn > 0
            self._count(stretch)
        return True

    def _count(self, stretch: Frames) -> None:
        for start, end in stretch.scan.damage:
            self.corrupt += 1
            self.corrupt_bytes += end - start
            self._keep_aside(stretch, start, end)
        token = b""
        process = None
        levels: dict[int, int] = {}
        for view in stretch.scan.frames:
            if process is None or view.token != token:
                token, process = view.token, self._process(view.token.hex(), view.pid)
            if view.parts > 1:
                process.see_part(view)
            if view.part:
                continue
            if view.flags and view.flags != frame.MARK:
                continue
            if view.flags == frame.MARK:
                process.mark = (view.seq, stretch.segment, stretch.offset + view.end)
                continue
            if not process.see(view.seq):
                self.doubles += 1
                continue
            process.seen += 1
            self.journaled += 1
            levels[view.level] = levels.get(view.level, 0) + 1
        for level, count in levels.items():
            self.levels[level_name(level)] = self.levels.get(level_name(level), 0) + count

    def _process(self, token: str, pid: int) -> _Process:
        process = self._processes.get(token)
        if process is None:
            process = self._processes[token] = _Process(pid)
            self._forget_oldest()
        return process

    def _forget_oldest(self) -> None:
        if len(self._processes) <= MOST_PROCESSES:
            return
        newest = next(reversed(self._processes))
        for token, process in self._processes.items():
            # An overflow whose process lives (pid 0) says the same again at every look: forgotten, it counts twice.
            if process.pid and token != newest and process_is_gone(process.pid):
                self._past_missing += process.missing
                _add(self._past_drops, process.drops)
                del self._processes[token]
                return

    def _keep_aside(self, stretch: Frames, start: int, end: int) -> None:
        if self.corrupt_bytes > MOST_DAMAGE:
            return
        name = f"{stretch.segment}-{stretch.offset + start}.bin"
        with contextlib.suppress(OSError):
            fd = open_file(os.path.join(self._damaged, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with open(fd, "wb") as file:
                file.write(stretch.buffer[start:end])

    def note_drops(self, overflow: str, pid: int, drops: Drops) -> None:
        """What a process's overflow says it dropped so far; saying it again changes nothing. `pid` 0: it will."""
        if drops:
            known = self._process(overflow, pid)
            known.pid = pid
            known.drops = drops
            self._saved = None

    @property
    def drops(self) -> Drops:
        """Everything dropped before it reached the journal, by reason and level."""
        total: Drops = {}
        _add(total, self._past_drops)
        for process in self._processes.values():
            _add(total, process.drops)
        return total

    @property
    def missing(self) -> int:
        """Sequence numbers that never came: dropped with a count, died with a killed process, or still on their way."""
        return self._past_missing + sum(process.missing for process in self._processes.values())

    def marks(self) -> dict[str, tuple[int, int, int]]:
        """Token → number of the last mark seen, and where the journal stood then (segment, offset)."""
        return {token: process.mark for token, process in self._processes.items() if process.mark}

    def seen(self) -> dict[str, int]:
        """Token → how many of the process's events are in the journal; of the last processes that were heard of."""
        last = list(self._processes.items())[-MOST_TOLD:]
        return {token: process.seen for token, process in last if process.seen}

    def has(self, token: bytes, seq: int, part: int) -> bool:
        """Whether this frame of a process's event is in the journal, or was."""
        process = self._processes.get(token.hex())
        return process is not None and process.has(seq, part)

    def gaps(self) -> dict[str, list[tuple[int, int]]]:
        """Token → the ranges of sequence numbers that never came."""
        return {token: process.gaps for token, process in self._processes.items() if process.gaps}

    def save(self) -> None:
        """Make it durable. OSError when the disk is full: what was counted is counted again from the last save."""
        if self.position == self._saved:
            return
        write_atomically(self._path, {**self.position._asdict(), **self.summary(), **self._memory()})
        self._saved = self.durable = self.position

    def summary(self) -> dict[str, Any]:
        return {
            "journaled": self.journaled,
            "doubles": self.doubles,
            "corrupt": self.corrupt,
            "corrupt_bytes": self.corrupt_bytes,
            "levels": self.levels,
        }

    def _memory(self) -> dict[str, Any]:
        processes = {
            token: {
                "pid": known.pid,
                "ranges": known.ranges,
                "drops": known.drops,
                "folded": known.folded,
                "seen": known.seen,
                "mark": known.mark,
                "open": {seq: sorted(parts) for seq, parts in known.open.items()},
            }
            for token, known in self._processes.items()
        }
        return {"past_drops": self._past_drops, "past_missing": self._past_missing, "processes": processes}

    def close(self) -> None:
        self._reader.close()


def _counts(saved: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(count) for name, count in saved.items()}


def _drops(saved: dict[str, Any]) -> Drops:
    return {str(reason): _counts(levels) for reason, levels in saved.items()}


def _add(total: Drops, more: Drops) -> None:
    for reason, levels in more.items():
        into = total.setdefault(reason, {})
        for level, count in levels.items():
            into[level] = into.get(level, 0) + count
