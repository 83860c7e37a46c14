"""What people have asked of an app with commands: the file `controls.json` of the spool.

    paused   backend's name → since when; it is sent nothing
    retry    backend's name → when somebody asked to send to it again without waiting
    levels   logger's name ("" for this package's handlers) → number of the level, and until when it is in force

Times are in seconds since the epoch. Commands write the file, under a lock on the spool's folder; it is replaced as a
whole. The shipper process reads `paused` and `retry`, processes of the app read `levels`, each about once a second.
While the file is missing or damaged, they keep what they read last. The shipper process makes a missing file again, so
that there is one to overwrite when the disk is full.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .files import get_dict, get_times, read_json, write_atomically
from .layout import Spool
from .numbers import close_high, open_high

MAX_LEVELS = 100  # that are read from a file
MAX_LEVEL_SECONDS = 7 * 86_400.0  # that one may be in force
_UNSETTLED_SECONDS = 1.0  # a younger file may change again and keep its modification time

Level = tuple[int, float]
"""A level, and until when it is in force, in seconds since the epoch."""


@dataclass(frozen=True)
class Controls:
    """The content of `controls.json`."""

    paused: Mapping[str, float] = field(default_factory=dict)
    retry: Mapping[str, float] = field(default_factory=dict)
    levels: Mapping[str, Level] = field(default_factory=dict)

    def levels_at(self, now: float) -> dict[str, int]:
        """Logger's name → level, of those in force; without any that would last longer than `MAX_LEVEL_SECONDS`."""
        return {name: level for name, (level, until) in self.levels.items() if 0 < until - now <= MAX_LEVEL_SECONDS}


class ControlsReader:
    """The controls of one spool, read again when the file has changed."""

    def __init__(self, spool: Spool) -> None:
        self.controls = Controls()
        self._path = spool.controls
        self._identity: object = None

    def look(self) -> bool:
        """Read the file if it may have changed; whether its content differs from before."""
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        identity = (found.st_ino, found.st_size, found.st_mtime_ns)
        if identity == self._identity:
            return False
        read = _read(self._path)
        if read is None:
            return False
        self._identity = identity if time.time() - found.st_mtime > _UNSETTLED_SECONDS else None
        before, self.controls = self.controls, read
        return read != before


def read_controls(spool: Spool) -> Controls:
    """The present content of the file; empty when it is missing or damaged."""
    return _read(spool.controls) or Controls()


def change_controls(spool: Spool, change: Callable[[Controls], Controls]) -> Controls:
    """Apply a change, drop levels that have run out, write and return the result. OSError when that fails."""
    with _locked(spool, fcntl.LOCK_EX):
        now = time.time()
        controls = change(read_controls(spool))
        levels = {name: each for name, each in controls.levels.items() if each[1] > now}
        controls = replace(controls, levels=levels)
        write_atomically(spool.controls, asdict(controls))
        return controls


def restore_controls(spool: Spool, controls: Controls) -> None:
    """Make the file again when it is missing. OSError when it can't be written, or a command has the lock."""
    if not os.path.lexists(spool.controls):
        with _locked(spool, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if not os.path.lexists(spool.controls):
                write_atomically(spool.controls, asdict(controls))


@contextlib.contextmanager
def _locked(spool: Spool, how: int) -> Iterator[None]:
    """Hold a lock on the spool's folder; where folders can't be locked (NFS), nothing is held."""
    folder = open_high(spool.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, how)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        close_high(folder)


def _read(path: str) -> Controls | None:
    data = read_json(path)
    if data is None:
        return None
    levels = get_dict(data, "levels")
    valid = {name: (each[0], float(each[1])) for name, each in levels.items() if _is_level(each)}
    return Controls(get_times(data, "paused"), get_times(data, "retry"), dict(list(valid.items())[:MAX_LEVELS]))


def _is_level(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    level, until = value
    is_time = isinstance(until, (int, float)) and not isinstance(until, bool)
    return type(level) is int and 0 <= level <= 1000 and is_time
