"""A backend's place in the journal: read a batch, settle, commit.

This face is what a backend needs of any log, local or distributed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from . import frame
from .event import MAX_EVENT, EventId
from .journal import Frames, Position, Reader, segment_path, segments
from .overflow import level_name
from .spool import PADDED, open_file, read_json, write_atomically

WINDOW = 16_384  # entries that one cursor may have in hand
MOST_PARTS = MAX_EVENT // frame.MAX_PAYLOAD + 2
DEAD_WRITER = 5.0  # seconds for the rest of a killed writer's event to turn up, out of its overflow too
SLOW_WRITER = 300.0  # seconds that a living but stopped writer may take between two frames of an event


class Entry:
    """One event in a cursor's hand. ``outcome`` is None until it is settled."""

    __slots__ = (
        "attempts",
        "failing_since",
        "id",
        "level",
        "not_before",
        "outcome",
        "passed_then",
        "payload",
        "pid",
        "start",
        "weight",
    )

    def __init__(self, start: Position, id: EventId, level: int, pid: int, payload: bytes | None) -> None:
        self.start = start
        self.id = id
        self.level = level
        self.pid = pid
        self.payload = payload  # None while parts of it are missing
        self.outcome: str | None = None
        self.weight = 1
        self.attempts = 0
        self.not_before = 0.0
        self.failing_since: float | None = None
        self.passed_then = 0


class _Parts:
    """The frames of an unfinished event."""

    __slots__ = ("entry", "pieces", "seen", "total", "until")

    def __init__(self, entry: Entry, total: int, now: float) -> None:
        self.entry = entry
        self.total = total
        self.pieces: dict[int, bytes] = {}
        self.seen = now
        self.until: Position | None = None  # the journal's end when patience ended: given up once that was read


DELIVERED, FILTERED, DEAD = "delivered", "filtered", "dead"
INCOMPLETE, QUOTA = "incomplete", "quota"
_LOST = (INCOMPLETE, QUOTA)


def process_is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}") if os.path.isdir("/proc/self") else False


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
        clock: Callable[[], float] = time.monotonic,
        gone: Callable[[int], bool] = process_is_gone,
    ) -> None:
        self._path = path
        self._folder = folder
        self._level = frame.clip(level)
        self._clock = clock
        self._gone = gone
        self._window: deque[Entry] = deque()
        self._unfinished: dict[EventId, _Parts] = {}
        self.base = -1  # events from before this cursor was made, none of its business; -1: not counted yet
        self.counts: dict[str, int] = {}
        self.dropped: dict[str, dict[str, int]] = {}
        self.nobody_writes = False  # nobody is left who could finish an event
        self.urgent = False  # a mark was read: somebody waits for what stands before it
        self._views: deque[frame.FrameView] = deque()  # read, not taken yet
        self._stretch: Frames
        self._next: Position | None = None  # of the first of them
        self._reader = Reader(folder, self._load(), clock=clock)
        self._reader.clamp()
        self._saved: Position | None = self.position

    def _load(self) -> Position:
        saved = read_json(self._path) or {}
        with contextlib.suppress(TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
            position = Position(int(saved["segment"]), int(saved["offset"]))
            if min(position) < 0:
                raise ValueError("no place in a journal")
            self.counts = {str(name): int(count) for name, count in saved["counts"].items()}
            self.dropped = {str(k): {str(a): int(b) for a, b in v.items()} for k, v in saved["dropped"].items()}
            self.base = int(saved["base"])
            return position
        # Its file is gone or damaged: rather everything again, under the same ids, than anything not at all.
        self.counts, self.dropped, self.base = {}, {}, -1
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
        if self._window:
            return self._window[0].start
        return self.position_read

    @property
    def settled(self) -> int:
        """How many events stand before the position."""
        return sum(self.counts.values())

    def read(self, most: int, max_bytes: int) -> list[Entry]:
        """The next events to deliver, at most so many and about so many bytes. Those below the level settle at once."""
        entries: list[Entry] = []
        size = 0
        if self._unfinished:
            self._give_up_unfinished()
        while len(entries) < most and size < max_bytes and (len(self._window) < WINDOW or self._has_room()):
            if not self._views and not self._look_ahead():
                self._give_up_unfinished(at_the_end=True)
                break
            entry = self._take(self._views.popleft())
            if entry is not None:
                entries.append(entry)
                size += len(entry.payload or b"")
        return entries

    def _has_room(self) -> bool:
        """Whether a full window takes another entry, once what is settled behind an unfinished event is made small."""
        if self._unfinished:
            self._window = _compact(self._window)
        return len(self._window) < WINDOW * 3 // 4

    def _look_ahead(self) -> bool:
        self._next = None
        while not self._views:
            stretch = self._reader.read()
            if stretch is None:
                return False
            self._views.extend(stretch.scan.frames)
            self._stretch = stretch
        # Damage in front of the first frame is passed together with it.
        self._next = Position(self._stretch.segment, self._stretch.offset)
        return True

    def _take(self, view: frame.FrameView) -> Entry | None:
        """One frame; the event, when this made it whole and it is for this backend."""
        stretch = self._stretch
        start = Position(stretch.segment, stretch.offset + view.start)
        self._next = Position(stretch.segment, stretch.offset + view.end) if self._views else None
        if view.flags:
            self.urgent = self.urgent or view.flags == frame.MARK
            return None
        if view.level < self._level:
            self._filter(start, view)
            return None
        return self._entry(start, view, stretch.buffer)

    def _filter(self, start: Position, view: frame.FrameView) -> None:
        if view.part:
            return
        last = self._window[-1] if self._window else None
        if last is not None and last.outcome == FILTERED:
            last.weight += 1
            return
        entry = Entry(start, EventId(view.token, view.seq), view.level, view.pid, b"")
        entry.outcome = FILTERED
        self._window.append(entry)

    def _entry(self, start: Position, view: frame.FrameView, buffer: bytes) -> Entry | None:
        payload = buffer[view.payload_start : view.end]
        id = EventId(view.token, view.seq)
        if view.parts == 1:
            entry = Entry(start, id, view.level, view.pid, payload)
            self._window.append(entry)
            return entry
        parts = self._unfinished.get(id)
        if parts is None:
            if view.part:  # its beginning was damaged, or came before: nothing to add it to
                return None
            entry = Entry(start, id, view.level, view.pid, None)
            parts = self._unfinished[id] = _Parts(entry, view.parts, self._clock())
            self._window.append(entry)  # holds the place: the position does not pass an event's first frame
            if view.parts > MOST_PARTS:  # none of ours: no event is that large
                self._give_up(id)
                return None
        elif not view.part:  # its writer was killed while it emptied its overflow
            parts.entry.weight += 1
        if view.parts != parts.total:
            return None
        parts.pieces[view.part] = payload
        parts.seen = self._clock()
        if len(parts.pieces) < parts.total:
            return None
        del self._unfinished[id]
        parts.entry.payload = b"".join(parts.pieces[i] for i in range(parts.total))
        return parts.entry

    def _give_up_unfinished(self, *, at_the_end: bool = False) -> None:
        """The rest of an event whose writer is gone, or stopped for long, will not come behind the journal's end."""
        now = self._clock()
        for id, parts in list(self._unfinished.items()):
            patience = DEAD_WRITER if self._gone(parts.entry.pid) else SLOW_WRITER
            if self.nobody_writes:
                patience = 0.0
            if now - parts.seen < patience:
                continue
            if parts.until is None:
                parts.until = self._reader.end()
            if at_the_end or self.position_read >= parts.until:
                self._give_up(id)

    def _give_up(self, id: EventId) -> None:
        self.settle(self._unfinished.pop(id).entry, INCOMPLETE)

    @property
    def position_read(self) -> Position:
        """How far events were taken, settled or not."""
        return self._next or self._reader.position

    def settle(self, entry: Entry, outcome: str) -> None:
        """Say what became of an event: DELIVERED, FILTERED, DEAD, INCOMPLETE or QUOTA."""
        entry.outcome = outcome
        entry.payload = b""

    def commit(self) -> None:
        """Count what is settled without a gap, and make it durable. OSError when the disk is full: try again later."""
        window = self._window
        while window and window[0].outcome is not None:
            self._count(window.popleft())
        if self.position != self._saved:
            self._save()

    def _count(self, entry: Entry) -> None:
        outcome = entry.outcome or ""
        self.counts[outcome] = self.counts.get(outcome, 0) + entry.weight
        if outcome in _LOST:
            levels = self.dropped.setdefault(outcome, {})
            levels[level_name(entry.level)] = levels.get(level_name(entry.level), 0) + entry.weight

    def _save(self) -> None:
        position = self.position
        data = {**position._asdict(), "base": self.base, "counts": self.counts, "dropped": self.dropped}
        write_atomically(self._path, data)
        self._saved = position

    def skip_to(self, segment: int) -> None:
        """Give up what stands before `segment`, because of the quota; each event is counted under its level.

        Call `commit` afterwards. Entries in hand that are not settled yet are given up too.
        """
        while self.position_read.segment < segment:
            if self._views:
                self._take(self._views.popleft())
            elif not self._look_ahead():  # what it finds may belong to the segment that stays
                break
        self._unfinished = {id: parts for id, parts in self._unfinished.items() if parts.entry.start.segment >= segment}
        for entry in self._window:
            if entry.outcome is None and entry.start.segment < segment:
                self.settle(entry, QUOTA)

    def close(self) -> None:
        self._reader.close()


def _compact(window: deque[Entry]) -> deque[Entry]:
    """The same window with settled neighbours of one outcome as one entry, but lost ones: their levels are counted."""
    compact: deque[Entry] = deque()
    for entry in window:
        last = compact[-1] if compact else None
        is_alike = last is not None and entry.outcome not in (None, *_LOST) and entry.outcome == last.outcome
        if last is not None and is_alike:
            last.weight += entry.weight
        else:
            compact.append(entry)
    return compact


def _events_after(folder: str, position: Position) -> int:
    reader = Reader(folder, position)
    count = 0
    while (stretch := reader.read()) is not None:
        count += sum(not view.part and not view.flags for view in stretch.scan.frames)
    reader.close()
    return count


def begin_cursor(path: str, folder: str) -> None:
    """Let a backend that has no cursor yet begin with what comes from now on. OSError when it can't be written.

    Done by the application at `start()`, before it logs anything, and not by the process, which comes later.
    """
    numbers = segments(folder)
    last = numbers[-1] if numbers else 1
    offset = os.stat(segment_path(folder, last)).st_size if numbers else 0
    try:
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    # Not by replacing: another worker may have been here first. Read half-written, it begins with the first segment.
    text = json.dumps({"segment": last, "offset": offset, "base": -1, "counts": {}, "dropped": {}}).ljust(PADDED)
    try:
        os.write(fd, text.encode())
        # Once in a backend's life: or after a power cut it would begin anew, behind what is left for it.
        os.fsync(fd)
        _sync_folder(os.path.dirname(path))
    finally:
        os.close(fd)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def saved_positions(folder: str) -> dict[str, dict[str, Any]]:
    """What the cursor files in a folder say: backend's name → its file's content."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            data = read_json(os.path.join(folder, name))
            if data is not None:
                found[name[: -len(".json")]] = data
    return found
