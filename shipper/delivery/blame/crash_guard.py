"""Rejects an event that kills the process while its backend encodes it.

Protects from: an encoder that ends the process instead of raising (a crash in a C extension, an event for which it
takes all of the memory). The next process would read the same event first and die of it too, and nothing would be
delivered any more. That is unlikely with the backends of this package, whose encoders are `json` and string formatting;
it is possible with every backend that a user writes.

Costs: one file per backend, `cursors/<backend>.encoding`, mapped into memory, and about 1 µs per event. An ordinary
SIGKILL while an event is encoded makes it a suspect too. It becomes a dead letter by mistake only if a second SIGKILL
falls into the roughly 50 µs in which it is encoded alone: about once in 10,000 kills.

How: before events are encoded their ids are written into a slot of the file, and the slot is emptied right after. The
ids that the next process finds there were being encoded when the last one died: they are suspects. A suspect is encoded
alone before it may be sent, which acquits it; `MAX_DEATHS` processes that died while it was encoded alone make it a
rejected event.

    u64 number of suspects, then 24 bytes each: token (8), sequence number (u64), deaths (u64); room for 1000
    one slot for each request in flight, of the same form; room for the events of one request, at most 1000

Written by the shipper process that holds the spool's lock, and read by the next one when it starts.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ...errors import DeliveryError
from ...event.model import Event, EventId
from ...spool.files import reclaim_file
from .refusals import BadEventError

MAX_DEATHS = 2  # processes that die while an event is encoded alone, before it is rejected
MAX_NOTED = 1000  # ids in one slot; of larger requests only the first ones are noted
_MAX_FILE = 1 << 24  # bytes of a file that are read, more than any backend needs

Answers = Sequence["DeliveryError | None"]
_COUNT = struct.Struct("<Q")
_NOTED = struct.Struct("<8sQQ")
_EMPTY = _COUNT.pack(0)
_SUSPECTS_SIZE = _COUNT.size + _NOTED.size * MAX_NOTED


@runtime_checkable
class Encoder(Protocol):
    """A backend whose `send` is `encode(events)()`: `encode` makes the request and never waits."""

    @property
    def name(self) -> str: ...
    @property
    def max_events(self) -> int: ...
    @property
    def max_in_flight(self) -> int: ...
    def encode(self, events: Sequence[Event]) -> Callable[[], Answers]:
        """Make the request for these events; calling the result sends it. May be called again for the same events."""
        ...


class CrashGuard:
    """Delivers through `backend`, and rejects the events that kill the process when they are encoded.

    ``path`` is the file for the notes. If the disk does not take it, nothing is guarded.
    """

    def __init__(self, backend: Encoder, path: str) -> None:
        self.name = backend.name
        self.max_events = backend.max_events
        self.max_in_flight = backend.max_in_flight
        self.initial_in_flight = int(getattr(backend, "initial_in_flight", 1))
        self._backend = backend
        self._capacity = min(backend.max_events, MAX_NOTED)
        self._slot_size = _COUNT.size + _NOTED.size * self._capacity
        self._free_slots = deque(_SUSPECTS_SIZE + slot * self._slot_size for slot in range(backend.max_in_flight))
        self._suspects: dict[EventId, int] = {}  # id → processes that died while it was encoded alone
        self._saving = threading.Lock()
        self._notes: mmap.mmap | None = None
        with contextlib.suppress(OSError, ValueError):
            self._open(path)

    def _open(self, path: str) -> None:
        fd = reclaim_file(path, os.O_RDWR | os.O_CREAT)
        try:
            self._suspects = _suspects(os.pread(fd, min(os.fstat(fd).st_size, _MAX_FILE), 0), self._slot_size)
            size = _SUSPECTS_SIZE + self._slot_size * len(self._free_slots)
            # All blocks now: on a disk that is full later, a write to a hole in mapped memory would be a SIGBUS.
            os.posix_fallocate(fd, 0, size)
            os.ftruncate(fd, size)
            self._notes = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self._save_suspects()
        for slot in self._free_slots:
            self._notes[slot : slot + _COUNT.size] = _EMPTY

    @property
    def has_suspects(self) -> bool:
        """Whether there are events that have to be encoded alone before they may be sent."""
        return bool(self._suspects)

    def send(self, events: Sequence[Event]) -> Answers:
        rejected = self._rejected(events) if self._suspects else {}
        if not rejected:
            return self._encode(events)()
        accepted = [event for event in events if event.id not in rejected]
        answers = iter(self._encode(accepted)() if accepted else ())
        return [rejected[event.id] if event.id in rejected else next(answers) for event in events]

    def _rejected(self, events: Sequence[Event]) -> Mapping[EventId | None, BadEventError]:
        """Return an error for each event that has killed too many processes; encode every other suspect alone."""
        rejected: dict[EventId | None, BadEventError] = {}
        for event in events:
            deaths = self._suspects.get(event.id, -1) if event.id is not None else -1
            if deaths >= MAX_DEATHS:
                rejected[event.id] = BadEventError(f"{self.name}: encoding this event kills the process")
            elif deaths >= 0:
                with contextlib.suppress(Exception):  # an exception kills no process, and is raised again by `send`
                    self._encode([event])
        for event in events:
            if event.id is not None and event.id not in rejected:
                self._suspects.pop(event.id, None)
        self._save_suspects()
        return rejected

    def _encode(self, events: Sequence[Event]) -> Callable[[], Answers]:
        notes = self._notes
        if notes is None or not self._free_slots:
            return self._backend.encode(events)
        slot = self._free_slots.popleft()
        try:
            ids = [event.id for event in events[: self._capacity] if event.id is not None]
            _write(notes, slot, [(id, self._suspects.get(id, 0)) for id in ids])
            return self._backend.encode(events)
        finally:
            notes[slot : slot + _COUNT.size] = _EMPTY
            self._free_slots.append(slot)

    def _save_suspects(self) -> None:
        """Keep the suspects until they are acquitted: this process may die of something else, or of one of them."""
        with self._saving:
            if self._notes is not None:
                _write(self._notes, 0, list(self._suspects.items())[-MAX_NOTED:])


def _write(notes: mmap.mmap, at: int, ids: Sequence[tuple[EventId, int]]) -> None:
    data = b"".join([_NOTED.pack(*id, deaths) for id, deaths in ids])
    start = at + _COUNT.size
    notes[start : start + len(data)] = data
    notes[at:start] = _COUNT.pack(len(ids))  # last: ids count only once they are all written


def _suspects(notes: bytes, slot_size: int) -> dict[EventId, int]:
    """Return, from the last process's notes, event id → how many processes died while it was encoded alone."""
    found = dict(_noted(notes, 0, _SUSPECTS_SIZE))
    for slot in range(_SUSPECTS_SIZE, len(notes) - slot_size + 1, slot_size):
        encoded = list(_noted(notes, slot, slot_size))
        is_alone = len(encoded) == 1
        found.update({id: deaths + is_alone for id, deaths in encoded})
    return found


def _noted(notes: bytes, at: int, size: int) -> Iterator[tuple[EventId, int]]:
    if len(notes) < at + size:
        return
    (count,) = _COUNT.unpack_from(notes, at)
    for place in range(min(count, (size - _COUNT.size) // _NOTED.size)):
        token, seq, deaths = _NOTED.unpack_from(notes, at + _COUNT.size + place * _NOTED.size)
        yield EventId(token, seq), min(deaths, MAX_DEATHS)  # a damaged file may hold any number
