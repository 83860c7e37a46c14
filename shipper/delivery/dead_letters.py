"""Dead letters - one JSON line per event that a backend will never take: `dead/<backend>.ndjson` in the spool."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import json
import os
import threading
import time
from typing import Any

from ..errors import DeliveryError
from ..event.model import Event, EventId
from ..spool.files import move_aside, reclaim_file


class DeadLetters:
    """Appends to one file; when it outgrows `limit` bytes the older half moves to `<name>.1`, over the last one."""

    def __init__(self, folder: str, backend: str, *, limit: int) -> None:
        self.path = os.path.join(folder, f"{backend}.ndjson")
        self._backend = backend
        self._limit = limit
        self._writing = threading.Lock()

    def bury(self, id: EventId, event: Event | bytes, error: DeliveryError) -> None:
        """Write one down, durable before its event is settled. OSError when the disk does not take it."""
        line = json.dumps(
            {
                "id": str(id),
                "backend": self._backend,
                "time": time.time(),
                "reason": error.reason,
                "status": error.status,
                "body": error.body,
                "event": _plain(event),
            },
            default=_text,
        )
        with self._writing:
            self._make_room(len(line))
            self._append(line.encode() + b"\n")

    def _append(self, line: bytes) -> None:
        fd = reclaim_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(fd).st_size
            if os.write(fd, line) != len(line):
                os.ftruncate(fd, size)  # half a line would spoil the next one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        finally:
            os.close(fd)

    def _make_room(self, size: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(self.path).st_size
            if there and there + size > self._limit // 2:
                move_aside(f"{self.path}.1")
                os.replace(self.path, f"{self.path}.1")


def _plain(event: Event | bytes) -> dict[str, Any]:
    if isinstance(event, bytes):
        return {"undecodable": base64.b64encode(event).decode()}
    plain = dataclasses.asdict(event)
    plain["id"] = str(event.id)
    return plain


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else repr(value)
