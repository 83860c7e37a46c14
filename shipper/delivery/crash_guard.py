"""SHIPPER - finds the event that kills the process while its backend encodes it, so that it can't do so for ever.

Before a backend encodes events their ids are noted in a file that is mapped into memory, and taken out again right
after. What stands there when the next process starts was being encoded when the last one died. That may have been an
ordinary SIGKILL, so nothing is condemned for it: each of them is first encoded in a copy of the process, and one that
kills two of those is rejected.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import struct
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, Protocol, runtime_checkable

from ..errors import DeliveryError, RejectedError
from ..event.model import Event, EventId
from ..spool.files import reclaim_file

TRIALS = 2  # copies of the process that an event must kill
DEATHS = 3  # processes that died over an event which spared their copies, before it is rejected all the same
LONGEST_TRIAL = 10  # seconds; who takes longer is no killer
MOST_NOTED = 1000  # ids in one note; with larger batches only the first ones are noted

Answers = Sequence["DeliveryError | None"]
_COUNT = struct.Struct("<Q")
_NOTED = struct.Struct("<8sQQ")  # token, sequence number, how many processes have died so far


@runtime_checkable
class Encoder(Protocol):
    """A backend whose `send` is `encode(events)()`: what can kill the process is in `encode`, and no waiting."""

    @property
    def name(self) -> str: ...
    @property
    def max_events(self) -> int: ...
    @property
    def max_in_flight(self) -> int: ...
    def encode(self, events: Sequence[Event]) -> Callable[[], Answers]:
        """Make of the events what is sent; calling what it returns sends it. May be called again for them."""
        ...


class Guarded:
    """Delivers through `backend`, and rejects the events that kill the process when they are encoded.

    `path` is where the ids are noted. When the disk does not take that file, nothing is guarded.
    """

    def __init__(self, backend: Encoder, path: str) -> None:
        self.name = backend.name
        self.max_events = backend.max_events
        self.max_in_flight = backend.max_in_flight
        self._backend = backend
        self._suspects: dict[EventId, int] = {}
        self._capacity = min(backend.max_events, MOST_NOTED)
        self._size = _COUNT.size + _NOTED.size * self._capacity
        self._free: deque[int] = deque(_KEPT + slot * self._size for slot in range(backend.max_in_flight))
        self._notes: mmap.mmap | None = None
        self._keeping = threading.Lock()
        with contextlib.suppress(OSError, ValueError):
            self._open(path)

    def _open(self, path: str) -> None:
        fd = reclaim_file(path, os.O_RDWR | os.O_CREAT)
        try:
            self._suspects = _suspects(os.pread(fd, min(os.fstat(fd).st_size, 1 << 24), 0), self._size)
            size = _KEPT + self._size * len(self._free)
            # All blocks now: a full disk must not make a hole in memory later.
            os.posix_fallocate(fd, 0, size)
            os.ftruncate(fd, size)
            self._notes = mmap.mmap(fd, size)
            self._keep()
            for slot in self._free:
                self._notes[slot : slot + _COUNT.size] = _NOTHING
        finally:
            os.close(fd)

    def send(self, events: Sequence[Event]) -> Answers:
        condemned = self._condemned(events) if self._suspects else {}
        if not condemned:
            return self._encoded(events)()
        spared = [event for event in events if event.id not in condemned]
        answers = iter(self._encoded(spared)() if spared else ())
        return [condemned[event.id] if event.id in condemned else next(answers) for event in events]

    def _condemned(self, events: Sequence[Event]) -> dict[EventId | None, RejectedError]:
        found: dict[EventId | None, RejectedError] = {}
        for event in events:
            deaths = self._suspects.get(event.id, 0) if event.id is not None else 0
            if not deaths:
                continue
            if deaths >= DEATHS or self._is_deadly(event):
                found[event.id] = RejectedError(f"{self.name}: encoding this event kills the process")
            else:
                self._encoded([event])  # alone: should the process die now, no other is suspected with it
        if found:
            self._suspects.update({id: DEATHS for id in found if id is not None})
            self._keep()
        return found

    def _is_deadly(self, event: Event) -> bool:
        return all(_kills(lambda: self._backend.encode([event])) for _ in range(TRIALS))

    def _encoded(self, events: Sequence[Event]) -> Callable[[], Answers]:
        notes = self._notes
        if notes is None or not self._free:
            return self._backend.encode(events)
        slot = self._free.popleft()
        try:
            self._note(notes, slot, events)
            encoded = self._backend.encode(events)
        finally:
            notes[slot : slot + _COUNT.size] = _NOTHING
            self._free.append(slot)
        acquitted = [event.id for event in events if event.id in self._suspects] if self._suspects else []
        if acquitted:
            for id in acquitted:
                self._suspects.pop(id, None)
            self._keep()
        return encoded

    def _note(self, notes: mmap.mmap, slot: int, events: Sequence[Event]) -> None:
        suspects = self._suspects
        ids = [event.id for event in events[: self._capacity] if event.id is not None]
        _write(notes, slot, [(id, suspects.get(id, 0) if suspects else 0) for id in ids])

    def _keep(self) -> None:
        """Note the suspects until they are acquitted: this process may die of something else, or of another one."""
        with self._keeping:
            if self._notes is not None:
                _write(self._notes, 0, list(self._suspects.items())[-MOST_NOTED:])


_NOTHING = _COUNT.pack(0)
_KEPT = _COUNT.size + _NOTED.size * MOST_NOTED  # bytes at the beginning of the file, for suspects from before


def _write(notes: mmap.mmap, at: int, ids: Sequence[tuple[EventId, int]]) -> None:
    text = b"".join([_NOTED.pack(*id, deaths) for id, deaths in ids])
    start = at + _COUNT.size
    notes[start : start + len(text)] = text
    notes[at:start] = _COUNT.pack(len(ids))  # last: who is killed before it has noted nothing


def _suspects(notes: bytes, size: int) -> dict[EventId, int]:
    """The ids in a file of notes whose slots have a `size`, each with how many processes have died over it by now."""
    found = dict(_noted(notes, 0, _KEPT))
    for slot in range(_KEPT, len(notes) - size + 1, size):
        found.update({id: deaths + 1 for id, deaths in _noted(notes, slot, size)})
    return found


def _noted(notes: bytes, at: int, size: int) -> Iterator[tuple[EventId, int]]:
    if len(notes) < at + size:
        return
    (count,) = _COUNT.unpack_from(notes, at)
    for place in range(min(count, (size - _COUNT.size) // _NOTED.size)):
        token, seq, deaths = _NOTED.unpack_from(notes, at + _COUNT.size + place * _NOTED.size)
        yield EventId(token, seq), deaths


def _kills(action: Callable[[], object]) -> bool:
    """Whether `action` ends a copy of this process."""
    mine, theirs = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other threads run, but the copy has no use for what they hold
            pid = os.fork()
    except OSError:  # no room for another process: nothing is known
        os.close(mine)
        os.close(theirs)
        return False
    if not pid:
        _try(action, theirs)
    os.close(theirs)
    with open(mine, "rb") as report:
        survived = _read_in_time(report.fileno())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return not survived


def _read_in_time(report: int) -> bool:
    """Whether the copy said that it lives, or says nothing for too long; not when it has gone without a word."""
    poller = select.poll()
    poller.register(report, select.POLLIN)
    return not poller.poll(LONGEST_TRIAL * 1000) or os.read(report, 1) != b""


def _try(action: Callable[[], object], report: int) -> NoReturn:
    try:
        signal.alarm(LONGEST_TRIAL)
        # Without the lock and the pipe, so that no copy that hangs can keep the next process from starting.
        for fd in map(int, os.listdir("/proc/self/fd")):
            if fd > 2 and fd != report:
                with contextlib.suppress(OSError):
                    os.close(fd)
        with contextlib.suppress(Exception):  # that is no death: whoever sends it hears of it
            action()
        os.write(report, b"!")
    finally:
        os._exit(0)
