"""The spool's lock: the process that holds it is the only shipper process of its app.

The lock is an exclusive flock on the file `lock`; its content says which process holds it, or held it last. The file
`app` names the app that the spool belongs to.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from typing import Any, NamedTuple

from ..errors import ConfigurationError
from .files import get_float, get_int, get_str, open_file, reclaim_file
from .kernel import boot_id, namespace
from .layout import Spool
from .numbers import close_high, open_high

_INFO_BYTES = 512


class LockInfo(NamedTuple):
    """Content of the lock file, a JSON object."""

    pid: int = 0
    """The shipper process's pid; 0 while it is starting."""
    started: float = 0.0
    """When it was started, seconds since the epoch."""
    digest: str = ""
    """`Settings.digest` of the process's settings."""
    since: float = 0.0
    """When start() was called with these settings, seconds since the epoch."""
    quick: int = 0
    """How many shipper processes in a row have ended soon after their start."""
    settings: int = 0
    """The process's descriptor of its published settings (see `joined.py`), 0 without one."""
    boot: str = ""
    """`boot_id` of the kernel that the process runs on (see `kernel.py`)."""
    pids: int = 0
    """The inode of the PID namespace that ``pid`` belongs to, 0 when that is not known."""
    spool_id: str = ""
    """The spool's id (see `Spool.read_id`), for when a cleaner removes the file before the process has read it."""

    @classmethod
    def read(cls, lock: int) -> LockInfo:
        """Read an open lock file; fields that are missing or damaged get their defaults."""
        data: Any = None
        with contextlib.suppress(ValueError, OSError):
            data = json.loads(os.pread(lock, 4096, 0) or b"{}")
        if not isinstance(data, dict):
            return cls()
        pid = get_int(data, "pid")
        return cls(
            pid=pid if 0 < pid < 2**31 else 0,
            started=get_float(data, "started"),
            digest=get_str(data, "digest"),
            since=get_float(data, "since"),
            quick=get_int(data, "quick"),
            settings=get_int(data, "settings"),
            boot=get_str(data, "boot"),
            pids=get_int(data, "pids"),
            spool_id=get_str(data, "spool_id"),
        )

    def is_visible(self) -> bool:
        """Whether ``pid`` is a process that this one can see. False in another container, and on another host."""
        return not self.boot or (self.boot == boot_id() and self.pids == namespace("pid"))

    def write(self, lock: int) -> None:
        """Replace the content of an open lock file; an error is ignored."""
        with contextlib.suppress(OSError):
            os.pwrite(lock, json.dumps(self._asdict()).encode().ljust(_INFO_BYTES), 0)


def running(spool: Spool) -> LockInfo | None:
    """The content of the lock file while a shipper process holds the lock; None when none does."""
    try:
        lock = open_file(spool.lock, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return LockInfo.read(lock)
    except OSError:
        return None
    finally:
        close_high(lock)
    return None


def lock_journal(spool: Spool) -> int:
    """Lock the journal's folder, for the case that the lock file is removed; its descriptor, -1 if it can't be locked.

    BlockingIOError when another process has locked it.
    """
    journal = open_journal(spool)
    try:
        if journal < 0 or try_lock(journal):
            return journal
    except BlockingIOError:
        close_high(journal)
        raise
    close_high(journal)
    return -1


def open_journal(spool: Spool) -> int:
    """Open the journal's folder, to lock it; -1 when it can't be opened."""
    try:
        return open_high(spool.journal, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return -1


def try_lock(journal: int) -> bool:
    """Lock the open folder; False where folders can't be locked. BlockingIOError when another process has locked it."""
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # NFS locks only what is open for writing
        return False
    return True


def read_pid(spool: Spool) -> int:
    """The pid of the last holder of the lock; 0 when it is not known, -1 in another container or on another host."""
    try:
        lock = open_file(spool.lock, os.O_RDONLY)
    except OSError:
        return 0
    try:
        info = LockInfo.read(lock)
        return info.pid if info.is_visible() or not info.pid else -1
    finally:
        close_high(lock)


def claim(spool: Spool, app: str) -> None:
    """Note the app as the owner of a new spool, and give it an id; ConfigurationError if it is another app's."""
    try:
        fd = reclaim_file(spool.app, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ConfigurationError("spool", spool.path, f"a folder that this user can write to ({error})") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # two apps may claim it at the same moment
        owner = os.read(fd, 1024).decode(errors="replace").strip()
        if owner and owner != app:
            allowed = f"belongs to the app {owner!r}, and this is {app!r}: give another"
            raise ConfigurationError("spool", spool.path, allowed)
        if not owner or spool.read_id():  # an earlier version's spool keeps the memory folder of its path
            spool.write_id(spool.read_id())
        if not owner:
            os.write(fd, f"{app}\n".encode())
    except OSError as error:
        raise ConfigurationError("spool", spool.path, f"a folder that this user can write to ({error})") from error
    finally:
        close_high(fd)
