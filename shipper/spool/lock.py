"""The spool's lock: whoever holds it is the one shipper process of its app, and its file says which one that is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError
from .layout import Spool, open_cleared, open_file


def running(spool: Spool) -> dict[str, Any] | None:
    """Who holds the lock of a spool: its `pid`, `started` and `digest`; None when nobody does."""
    try:
        lock = open_file(spool.lock, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_note(lock)
    except OSError:
        return None
    finally:
        os.close(lock)
    return None


def claim(spool: Spool, app: str) -> None:
    """ConfigurationError when the spool belongs to another app: its events would go to the wrong backends."""
    path = os.path.join(spool.path, "app")
    try:
        fd = open_cleared(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ConfigurationError("spool", spool.path, f"a folder that this user can write to ({error})") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # for the moment in which two apps may come at once
        owner = os.read(fd, 1024).decode(errors="replace").strip()
        if owner and owner != app:
            allowed = f"belongs to the app {owner!r}, and this is {app!r}: give another"
            raise ConfigurationError("spool", spool.path, allowed)
        if not owner:
            os.write(fd, f"{app}\n".encode())
    except OSError as error:
        raise ConfigurationError("spool", spool.path, f"a folder that this user can write to ({error})") from error
    finally:
        os.close(fd)


def read_pid(spool: Spool) -> int:
    """The pid of the last process that held the lock, 0 when it has not said so yet."""
    try:
        lock = open_file(spool.lock, os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(number(read_note(lock), "pid"))
    finally:
        os.close(lock)


def read_note(lock: int) -> dict[str, Any]:
    """What the lock file says, {} when nothing that can be read."""
    with contextlib.suppress(ValueError, OSError):
        data = json.loads(os.pread(lock, 4096, 0) or b"{}")
        if isinstance(data, dict):
            return data
    return {}


def number(note: Mapping[str, Any], name: str) -> float:
    """A number from a note, 0 when there is none of that name."""
    value = note.get(name)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def write_note(lock: int, note: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.pwrite(lock, json.dumps(note).encode().ljust(512), 0)
