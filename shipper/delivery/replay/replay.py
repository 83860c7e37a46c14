"""Sends a stretch of what was journaled to one backend again, under the same ids.

Protects from: a service that lost events, or that was configured wrongly. How likely: people make mistakes.
Costs: nothing until it is used. It depends on kept segments and the journal (which it reads), the backend's cursor
(events after it are sent anyway), the quota (what is handed over waits for room), and the shipper process.

Invariants
* An event is handed over once for each target, however often the command is killed, interrupted or repeated: its
  id is written in the same step (see `delivery/handover.py`).
* What is handed over never makes the quota give up events that are not delivered.

On disk: `replays/<target>.sent`, a line for each process: its token in hexadecimal, then the ranges of sequence numbers
that were handed over, as in `0123456789abcdef 0-17 19-20`; the ends are not included.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...errors import ShipperError, UndecodableError
from ...event.codec import ORIGINAL_ID, packed_time, unpack
from ...event.model import Event, EventId
from ...event.truncate import pack
from ...journal.history import History, Recorded
from ...journal.segments import Position
from ...journal.sequences import ExactTracker
from ...spool.files import open_file
from ...spool.owner import make_folder
from ...transport import frame
from ...transport.channel import new_token
from ..handover import OVERFLOW_BYTES, Handover


class ReplayError(ShipperError):
    """Nothing can be replayed now; the text says why."""


class SentIds:
    """The ids of the events that were handed over."""

    def __init__(self) -> None:
        self._processes: dict[bytes, ExactTracker] = {}

    def add(self, id: EventId) -> bool:
        """Note an id; False when it was there already."""
        tracker = self._processes.get(id.token)
        if tracker is None:
            tracker = self._processes[id.token] = ExactTracker(0)
        return tracker.add(id.seq)

    def __contains__(self, id: EventId) -> bool:
        tracker = self._processes.get(id.token)
        return tracker is not None and tracker.has(id.seq, 0)

    @classmethod
    def read(cls, path: str) -> SentIds:
        """The ids in a file, none when it is missing. ReplayError when it is damaged."""
        found = cls()
        with contextlib.suppress(FileNotFoundError), open(open_file(path, os.O_RDONLY), encoding="ascii") as file:
            for number, line in enumerate(file, 1):
                try:
                    token, *ranges = line.split()
                    tracker = found._processes[bytes.fromhex(token)] = ExactTracker(0)
                    tracker.ranges = [[int(begin), int(end)] for begin, end in (each.split("-") for each in ranges)]
                except ValueError:
                    raise ReplayError(f"{path}, line {number}: cannot be read; what was sent is not known") from None
        return found

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the file."""
        for token, tracker in self._processes.items():
            ranges = " ".join(f"{begin}-{end}" for begin, end in tracker.ranges)
            yield f"{token.hex()} {ranges}\n".encode()


@dataclass(frozen=True)
class Stretch:
    """Which events are sent again: for the backend of that ``name``, from ``since`` to before ``until`` (seconds since
    the epoch), of at least ``level``, that begin in the journal before ``end`` (None: no limit). ``takes_all``: whether
    the backend gets events that name none."""

    name: str
    since: float
    until: float
    level: int = 0
    end: Position | None = None
    takes_all: bool = True

    def takes(self, event: Event) -> bool:
        """Whether the event is for the backend, whatever its time and level."""
        return self.takes_all if event.route is None else self.name in event.route


@dataclass
class Counts:
    """What became of the events of a stretch."""

    sent: int = 0
    sent_before: int = 0
    below_level: int = 0
    for_others: int = 0
    under_way: int = 0
    """Not delivered yet: the shipper process delivers them anyway."""
    unreadable: int = 0

    @property
    def found(self) -> int:
        return self.sent + self.sent_before + self.below_level + self.for_others + self.under_way + self.unreadable


class Replay:
    """Hands over events of the ``stretch`` in the folder ``overflows``.

    ``base``: what the paths of the target's files begin with. ``again``: also events that were handed over before.
    """

    def __init__(self, stretch: Stretch, base: str, overflows: str, *, again: bool = False) -> None:
        with contextlib.suppress(FileExistsError):
            make_folder(os.path.dirname(base))
        self.counts = Counts()
        self._stretch = stretch
        self._path = f"{base}.sent"
        self._handover = Handover(base, self._path, overflows)
        self._again = again

    def run(
        self,
        history: History,
        *,
        portion: int = OVERFLOW_BYTES,
        wait_for_room: Callable[[int], None] = lambda size: None,
        dry: bool = False,
    ) -> Counts:
        """Hand over the events, about ``portion`` bytes at a time; return `counts`, which grow while this runs.

        ``wait_for_room`` is called with the size of each portion before it is handed over; what it raises ends this.
        ``dry`` only counts. ReplayError while another command is at work for the same target, or on an OSError.
        """
        try:
            with self._handover.locked():
                self._run(history, portion, wait_for_room, dry)
        except BlockingIOError:
            raise ReplayError(f"another command replays to {self._stretch.name}") from None
        except OSError as error:
            raise ReplayError(f"{self._path}: {error.strerror or error}") from error
        return self.counts

    def _run(self, history: History, portion: int, wait_for_room: Callable[[int], None], dry: bool) -> None:
        sent = SentIds.read(self._handover.current)
        for frames, ids in self._portions(history, sent, portion):
            if not dry:
                wait_for_room(len(frames))
                for id in ids:
                    sent.add(id)
                self._handover.commit(sent.lines(), [frames])
            self.counts.sent += len(ids)

    def _portions(self, history: History, sent: SentIds, most: int) -> Iterator[tuple[bytes, list[EventId]]]:
        """Yield frames of events, about ``most`` bytes at a time, with the events' ids."""
        frames: list[bytes] = []
        ids: list[EventId] = []
        token, size = new_token(), 0
        for event in self._events(history):
            assert event.id is not None
            if event.id in sent and not self._again:
                self.counts.sent_before += 1
                continue
            made = frame.encode(self._packed(event), token=token, seq=len(ids), pid=os.getpid(), level=event.level)
            ids.append(event.id)
            frames += made
            size += sum(map(len, made))
            if size >= most:
                yield b"".join(frames), ids
                frames, ids, token, size = [], [], new_token(), 0
        if ids:
            yield b"".join(frames), ids

    def _packed(self, event: Event) -> bytes:
        event.route = (self._stretch.name,)
        event.data = {**event.data, ORIGINAL_ID: str(event.id)}
        return pack(event)

    def _events(self, history: History) -> Iterator[Event]:
        """Yield the events of the stretch, each once, also those that were sent before; count those left out."""
        stretch, counts, seen = self._stretch, self.counts, SentIds()
        for recorded in history.read(until=history.end):
            when = packed_time(recorded.payload)
            if when is not None and not stretch.since <= when < stretch.until:
                continue
            event = self._unpacked(recorded)
            if event is None or not stretch.since <= event.time < stretch.until:
                continue
            if event.id is None or not seen.add(event.id):  # a copy: it was replayed into this journal
                continue
            if not stretch.takes(event):
                counts.for_others += 1
            elif recorded.level < stretch.level:
                counts.below_level += 1
            elif stretch.end is not None and recorded.start >= stretch.end:
                counts.under_way += 1
            else:
                yield event

    def _unpacked(self, recorded: Recorded) -> Event | None:
        try:
            return unpack(recorded.payload, recorded.id)
        except UndecodableError:
            self.counts.unreadable += 1
            return None
