"""Counts the events that have come into the journal, by process and level; delivers nothing.

Invariants: every event whose first frame is in the journal is counted once, after any crash too: place and counts are
in one file, replaced atomically. A number missing in a process's sequence is an event that it dropped, or that was lost
when it died; the drops that its overflow counts name the reason.

On disk: `ledger.json`, an object with the place (`segment`, `offset`), the counts of `Account.summary`, `past_drops`,
`past_missing` and `processes`: token in hexadecimal → what `SequenceTracker.saved` returns. Damaged bytes are kept in
`damaged/<segment>-<offset>.bin`. The main thread of the shipper process is the only one that uses the account.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ..spool.files import open_file, read_json, write_atomically
from ..spool.layout import MAX_REPORTED
from ..transport import frame
from ..transport.drops import Drops, level_name
from ..transport.memory.shared_file import process_is_gone
from .reader import Frames, Reader
from .segments import Position, segments
from .sequences import SequenceTracker, add_drops, parse_counts, parse_drops

MAX_PROCESSES = 512  # remembered one by one; older ones are added up
MAX_DAMAGE = 64 * 1024 * 1024  # bytes of damage that are kept aside


class Account:
    """The account that is saved at ``path``, of the journal in ``folder``. Damaged bytes are kept in ``damaged``."""

    def __init__(self, path: str, folder: str, damaged: str) -> None:
        self._path = path
        self._damaged = damaged
        self._processes: dict[str, SequenceTracker] = {}
        self.journaled = 0  # events whose first frame is in the journal, duplicates not counted
        self.duplicates = 0
        self.corrupt = 0  # stretches of damaged bytes
        self.corrupt_bytes = 0
        self.levels: dict[str, int] = {}
        self._past_drops: Drops = {}
        self._past_missing = 0
        self._folder = folder
        self._is_complete = True
        self._reader = Reader(folder, self._load())
        self._reader.clamp()
        self._saved: Position | None = None
        self.durable = self.position  # up to here nothing is counted again after a crash

    @property
    def position(self) -> Position:
        """Everything before it is counted. Always a frame's border."""
        return self._reader.position

    @property
    def is_at_end(self) -> bool:
        """Whether the last `follow` left nothing to read, or only half a frame whose rest will not come."""
        return self._reader.is_at_end

    def _load(self) -> Position:
        """Load the saved counts; return the saved position. Without a valid file, count the whole journal again."""
        saved = read_json(self._path) or {}
        try:
            position = Position(int(saved["segment"]), int(saved["offset"]))
            journaled, duplicates = int(saved["journaled"]), int(saved["doubles"])
            corrupt, corrupt_bytes = int(saved["corrupt"]), int(saved["corrupt_bytes"])
            levels, past_drops = parse_counts(saved["levels"]), parse_drops(saved["past_drops"])
            past_missing = int(saved["past_missing"])
            processes = {str(token): SequenceTracker.of(known) for token, known in saved["processes"].items()}
            if min(*position, journaled, duplicates, corrupt, corrupt_bytes, past_missing) < 0:
                raise ValueError("a negative count")
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            self._is_complete = segments(self._folder)[:1] in ([], [1])
            return Position(1, 0)
        self.journaled, self.duplicates = journaled, duplicates
        self.corrupt, self.corrupt_bytes = corrupt, corrupt_bytes
        self.levels, self._past_drops, self._past_missing = levels, past_drops, past_missing
        self._processes = processes
        return position

    # -- counting ----------------------------------------------------------------------------------------------------

    def follow(self, most: int = 64, *, ended: bool = False) -> bool:
        """Count what came since the last call, at most ``most`` stretches; return whether there was anything.

        ``ended``: nothing more will be written, see `Reader.read`.
        """
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
                process.add_part(view)
            if view.part or (view.flags and view.flags != frame.MARK):
                continue
            if view.flags == frame.MARK:
                process.mark = (view.seq, stretch.segment, stretch.offset + view.end)
                continue
            if not process.add(view.seq):
                self.duplicates += 1
                continue
            process.seen += 1
            self.journaled += 1
            levels[view.level] = levels.get(view.level, 0) + 1
        for level, count in levels.items():
            self.levels[level_name(level)] = self.levels.get(level_name(level), 0) + count

    def _process(self, token: str, pid: int) -> SequenceTracker:
        process = self._processes.get(token)
        if process is None:
            process = self._processes[token] = SequenceTracker(pid)
            self._forget_oldest()
        return process

    def _forget_oldest(self) -> None:
        """Add up the oldest process that is gone, once there are too many."""
        if len(self._processes) <= MAX_PROCESSES:
            return
        newest = next(reversed(self._processes))
        for token, process in self._processes.items():
            # The drops of a living process (pid 0) are noted again every time: they would count twice.
            if process.pid and token != newest and process_is_gone(process.pid):
                self._past_missing += process.missing
                add_drops(self._past_drops, process.drops)
                del self._processes[token]
                return

    def _keep_aside(self, stretch: Frames, start: int, end: int) -> None:
        if self.corrupt_bytes > MAX_DAMAGE:
            return
        name = f"{stretch.segment}-{stretch.offset + start}.bin"
        with contextlib.suppress(OSError):
            fd = open_file(os.path.join(self._damaged, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            with open(fd, "wb") as file:
                file.write(stretch.buffer[start:end])

    def note_drops(self, overflow: str, pid: int, drops: Drops) -> None:
        """Note all that a process's overflow has counted as dropped; noting the same again changes nothing.

        ``pid`` 0: the process lives, and its drops will be noted again.
        """
        if drops:
            known = self._process(overflow, pid)
            known.pid = pid
            known.drops = drops
            self._saved = None

    # -- what was counted --------------------------------------------------------------------------------------------

    @property
    def drops(self) -> Drops:
        """Everything that was dropped before it reached the journal, by reason and level."""
        total: Drops = {}
        add_drops(total, self._past_drops)
        for process in self._processes.values():
            add_drops(total, process.drops)
        return total

    @property
    def missing(self) -> int:
        """How many sequence numbers have not come: events that were dropped, died in a kill, or are on their way."""
        return self._past_missing + sum(process.missing for process in self._processes.values())

    def marks(self) -> dict[str, tuple[int, int, int]]:
        """Return, by token, the number of the last mark that has come, and the place after it (segment, offset)."""
        return {token: process.mark for token, process in self._processes.items() if process.mark}

    def seen(self) -> dict[str, int]:
        """Return, by token, how many events have come, of the last `MAX_REPORTED` processes."""
        last = list(self._processes.items())[-MAX_REPORTED:]
        return {token: process.seen for token, process in last if process.seen}

    def reached(self) -> dict[str, int]:
        """Return, by token, the number after the highest that has come, of the last `MAX_REPORTED` processes."""
        last = list(self._processes.items())[-MAX_REPORTED:]
        return {token: process.ranges[-1][1] for token, process in last if process.ranges}

    def has(self, token: bytes, seq: int, part: int) -> bool:
        """Whether this frame of a process's event has come."""
        process = self._processes.get(token.hex())
        return process is not None and process.has(seq, part)

    @property
    def remembers_all(self) -> bool:
        """Whether no process was forgotten because there were too many, or because an earlier account file was lost."""
        return self._is_complete and len(self._processes) < MAX_PROCESSES

    def gaps(self) -> dict[str, list[tuple[int, int]]]:
        """Return, by token, the ranges of sequence numbers that have not come."""
        return {token: process.gaps for token, process in self._processes.items() if process.gaps}

    # -- saving ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the file if anything changed.

        OSError when the disk is full: after a crash, counting begins at the last save.
        """
        if self.position == self._saved:
            return
        data = {
            **self.position._asdict(),
            **self.summary(),
            "past_drops": self._past_drops,
            "past_missing": self._past_missing,
            "processes": {token: process.saved() for token, process in self._processes.items()},
        }
        write_atomically(self._path, data)
        self._saved = self.durable = self.position

    def summary(self) -> dict[str, Any]:
        """The counts as the status file has them."""
        return {
            "journaled": self.journaled,
            "doubles": self.duplicates,
            "corrupt": self.corrupt,
            "corrupt_bytes": self.corrupt_bytes,
            "levels": self.levels,
        }

    def close(self) -> None:
        self._reader.close()
