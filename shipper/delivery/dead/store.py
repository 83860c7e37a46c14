"""The dead letters of one backend, for commands that read, replay and delete them while the shipper process runs.

Invariants
* A letter is in one of these places only: a file of the shipper process, a kept file, or an overflow that the shipper
  process takes over. A kill at any moment neither loses nor doubles one.
* The shipper process never waits for a command.
* A replayed event keeps its id, so that a service can tell whether it already has it.

Files in `dead/`
    <backend>.ndjson, ….1       written by the shipper process, see `writer.py`
    <backend>.ndjson.taken      one of these, renamed by a command that moves its letters to `.kept`
    <backend>.ndjson.kept       letters that no command has replayed or deleted; written by commands only
    <backend>.lock and others   a change under way, see `delivery/handover.py`
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...errors import ShipperError
from ...event.codec import ORIGINAL_ID
from ...event.exceptions import ExceptionInfo, Frame
from ...event.model import Event, EventId, sanitized
from ...event.truncate import pack
from ...spool.files import get_dict, get_float, get_str, open_file
from ...spool.layout import Spool
from ...transport import frame
from ...transport.channel import new_token
from ..handover import OVERFLOW_BYTES, Handover

WRITER_SECONDS = 5.0  # for the shipper process to finish the line that it writes

_FIELDS = [field.name for field in fields(Event)]


class DeadLettersError(ShipperError):
    """The dead letters cannot be read or changed now; the text says why. In a stream some may be changed already."""


@dataclass(frozen=True)
class Letter:
    """One dead letter. ``line`` is the JSON object as it is in the file."""

    line: bytes
    data: dict[str, Any]

    @property
    def id(self) -> str:
        return get_str(self.data, "id")

    @property
    def time(self) -> float:
        """When the event was rejected, seconds since the epoch."""
        return get_float(self.data, "time")

    @property
    def reason(self) -> str:
        return get_str(self.data, "reason")

    @property
    def message(self) -> str:
        """The event's message, "" for bytes that are not an event."""
        return get_str(get_dict(self.data, "event"), "message")

    @property
    def is_event(self) -> bool:
        """Whether it can be replayed."""
        data = get_dict(self.data, "event")
        if not data or "undecodable" in data or EventId.from_text(self.id) is None:
            return False
        try:
            self.event("any")
        except (TypeError, ValueError, AttributeError):  # a person has edited the file
            return False
        return True

    def event(self, backend: str) -> Event:
        """Return the event, routed to this backend alone."""
        data = get_dict(self.data, "event")
        values = {name: data[name] for name in _FIELDS if name in data}
        values["exceptions"] = [_exception(each) for each in values.get("exceptions") or []]
        values["route"] = (backend,)
        values["id"] = None
        values.pop("origin", None)
        event = sanitized(Event(**values))
        first = get_str(data, "id")
        event.data = {**event.data, ORIGINAL_ID: self.id if EventId.from_text(first) is None else first}
        return event


def _exception(data: dict[str, Any]) -> ExceptionInfo:
    return ExceptionInfo(**{**data, "frames": [Frame(*each) for each in data.get("frames", [])]})


class DeadLetterStore:
    """Reads and changes the dead letters of one backend."""

    def __init__(self, spool: Spool, backend: str) -> None:
        self._spool = spool
        self._backend = backend
        base = os.path.join(spool.dead, backend)
        self._current = f"{base}.ndjson"
        self._taken = f"{base}.ndjson.taken"
        self._kept = f"{base}.ndjson.kept"
        self._handover = Handover(base, self._kept, spool.overflow_on_disk)

    def letters(self) -> list[Letter]:
        """All letters, oldest first. Takes no lock: while another command is at work, one may be missing."""
        paths = [self._handover.current, self._taken, f"{self._current}.1", self._current]
        return _distinct(letter for path in paths for letter in _read(path))

    def replay(self, is_chosen: Callable[[Letter], bool]) -> int:
        """Hand over the chosen letters as events, remove them and return how many. DeadLettersError when it fails."""
        return self._change(lambda letter: letter.is_event and is_chosen(letter), self._overflows)

    def purge(self, is_chosen: Callable[[Letter], bool]) -> int:
        """Delete the chosen letters and return how many. DeadLettersError when that fails."""
        return self._change(is_chosen, lambda letters: iter(()))

    def _change(
        self, is_chosen: Callable[[Letter], bool], overflows: Callable[[Sequence[Letter]], Iterator[bytes]]
    ) -> int:
        try:
            with self._locked():
                letters = self._collect()
                chosen = [letter for letter in letters if is_chosen(letter)]
                if chosen:
                    keys = {letter.line for letter in chosen}
                    self._commit([letter for letter in letters if letter.line not in keys], overflows(chosen))
                return len(chosen)
        except OSError as error:
            raise DeadLettersError(f"{self._spool.dead}: {error.strerror or error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._handover.locked():
                yield
        except BlockingIOError:
            raise DeadLettersError(f"another command changes the dead letters of {self._backend}") from None

    # -- collecting --------------------------------------------------------------------------------------------------

    def _collect(self) -> list[Letter]:
        """Move the letters in the shipper process's files to the kept file; return all in it."""
        letters = list(_read(self._kept))
        for path in (self._taken, f"{self._current}.1", self._current):
            if path != self._taken:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path, self._taken)
            if not os.path.exists(self._taken):
                continue
            self._wait_for_writer()
            letters = _distinct((*letters, *_read(self._taken)))
            self._commit(letters, ())
            os.unlink(self._taken)
        return letters

    def _wait_for_writer(self) -> None:
        """Wait until the shipper process has finished a line that it was writing when the file was renamed."""
        deadline = time.monotonic() + WRITER_SECONDS
        fd = open_file(self._taken, os.O_RDWR)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise DeadLettersError("the shipper process is stopped while it writes a letter") from None
                time.sleep(0.01)
        finally:
            os.close(fd)

    # -- changing ----------------------------------------------------------------------------------------------------

    def _commit(self, rest: Sequence[Letter], overflows: Iterable[bytes]) -> None:
        self._handover.commit((letter.line + b"\n" for letter in rest), overflows)

    def _overflows(self, letters: Sequence[Letter]) -> Iterator[bytes]:
        """Yield the letters' events as frames, about `OVERFLOW_BYTES` at a time."""
        token, size = new_token(), 0
        pieces: list[bytes] = []
        for number, letter in enumerate(letters):
            event = letter.event(self._backend)
            frames = frame.encode(pack(event), token=token, seq=number, pid=os.getpid(), level=event.level)
            pieces += frames
            size += sum(map(len, frames))
            if size >= OVERFLOW_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
        if pieces:
            yield b"".join(pieces)


def _read(path: str) -> Iterator[Letter]:
    """The letters in a file. A line that is not a JSON object is a letter without an id, which can only be deleted."""
    with contextlib.suppress(FileNotFoundError), open(open_file(path, os.O_RDONLY), "rb") as file:
        for line in file:
            if line.strip():
                yield letter_of(line.rstrip(b"\n"))


def letter_of(line: bytes) -> Letter:
    """The letter of a line; what is not a JSON object has no id, and can only be deleted."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        data = None
    return Letter(line, data if isinstance(data, dict) else {})


def _distinct(letters: Iterable[Letter]) -> list[Letter]:
    """Each letter once: a kill may have left a file whose letters are kept already."""
    return list({letter.line: letter for letter in letters}.values())


def backends_with_letters(spool: Spool) -> list[str]:
    """The names of the backends that have dead letters, or files of them."""
    try:
        names = os.listdir(spool.dead)
    except OSError:
        return []
    return sorted({name.partition(".ndjson")[0] for name in names if ".ndjson" in name})
