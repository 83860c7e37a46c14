"""Dead letters: one JSON line per event that a backend will never take, in `dead/<backend>.ndjson` of the spool.

Commands read, replay and delete them meanwhile, see `store.py`.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import threading
import time
from typing import Any

from ...errors import DeliveryError
from ...event.model import Event, EventId
from ...spool.files import move_aside, reclaim_file

MAX_OPENS = 100  # attempts to open a file that commands rename all the time


class DeadLetters:
    """Appends to one file. Before it exceeds half of ``limit`` bytes, it is renamed to `<name>.1`, the older half."""

    def __init__(self, folder: str, backend: str, *, limit: int) -> None:
        self.path = os.path.join(folder, f"{backend}.ndjson")
        self._backend = backend
        self._limit = limit
        self._writing = threading.Lock()

    def write(self, id: EventId, event: Event | bytes, error: DeliveryError) -> None:
        """Append one dead letter. OSError when the disk does not take it."""
        line = as_json(self._backend, id, event, error)
        with self._writing:
            self._make_room_for(len(line))
            self._append(line + b"\n")

    def _append(self, line: bytes) -> None:
        fd = self._open()
        try:
            size = os.fstat(fd).st_size
            if os.write(fd, line) != len(line):
                os.ftruncate(fd, size)  # half a line would damage the next one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        finally:
            os.close(fd)

    def _open(self) -> int:
        """Open the file with a shared lock until it is closed: a command that renames it waits for the line's end."""
        for _ in range(MAX_OPENS):
            fd = reclaim_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if _lock_shared(fd) and _is_at(self.path, fd):
                return fd
            os.close(fd)  # a command has renamed it meanwhile
        return reclaim_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _make_room_for(self, size: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            used = os.stat(self.path).st_size
            if used and used + size > self._limit // 2:
                move_aside(f"{self.path}.1")
                os.replace(self.path, f"{self.path}.1")


def as_json(backend: str, id: EventId, event: Event | bytes, error: DeliveryError) -> bytes:
    """One dead letter as a JSON object in one line."""
    letter = {
        "id": str(id),
        "backend": backend,
        "time": time.time(),
        "reason": error.reason,
        "status": error.status,
        "body": error.body,
        "event": _as_json_object(event),
    }
    return json.dumps(letter, default=_as_text).encode()


def _lock_shared(fd: int) -> bool:
    """Take a shared lock without waiting; False while a command has the lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(path: str, fd: int) -> bool:
    try:
        found, there = os.fstat(fd), os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino)


def _as_json_object(event: Event | bytes) -> dict[str, Any]:
    if isinstance(event, bytes):
        return {"undecodable": base64.b64encode(event).decode()}
    fields = dataclasses.asdict(event)
    fields["id"] = str(event.id)
    if event.origin is None:
        del fields["origin"]
    return fields


def _as_text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
