"""The locks of the running process, and what it publishes in the lock file: its pid, and where its settings are.

There are two locks: on the lock file, which shows that a process runs, and on the journal's folder, so that no second
process writes the journal after a cleaner has removed the lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from ...config.settings import Settings
from ...spool.files import reclaim_file
from ...spool.joined import publish_settings
from ...spool.kernel import boot_id, namespace
from ...spool.layout import Spool
from ...spool.lock import LockInfo, lock_journal


class LockFile:
    """The open and locked lock file of the spool, and the lock on the journal's folder."""

    def __init__(self, lock: int, spool: Spool) -> None:
        """Lock the journal's folder. BlockingIOError when another process works on the journal."""
        self._lock = lock
        self._spool = spool
        self._settings = 0
        self._digest = ""
        self._journal = lock_journal(spool)
        self._restore_id()

    def _restore_id(self) -> None:
        """Write the spool's id again if it was removed since the start: the folder in memory is named by it."""
        known = LockInfo.read(self._lock).spool_id
        if known and not self._spool.read_id():
            with contextlib.suppress(OSError):
                self._spool.write_id(known)

    def publish(self, settings: Settings) -> None:
        """Write pid and digest, and the descriptor from which others read the settings."""
        file = publish_settings(settings)
        if file and self._settings:
            # Keep the number: a process that has just read it must not open another file.
            os.dup2(file, self._settings, inheritable=False)
            os.close(file)
        self._settings = self._settings or file
        self._digest = settings.digest
        self._write(LockInfo.read(self._lock))

    def _write(self, info: LockInfo) -> None:
        info = info._replace(pid=os.getpid(), digest=self._digest, settings=self._settings)
        info._replace(boot=boot_id(), pids=namespace("pid")).write(self._lock)

    def restore(self) -> bool:
        """Make and lock again what a cleaner has removed; False while another process has locked it. OSError."""
        return self._restore_lock() and self._restore_journal()

    def _restore_lock(self) -> bool:
        if _is_at(self._lock, self._spool.lock):
            return True
        lock = reclaim_file(self._spool.lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        info = LockInfo.read(self._lock)
        os.close(self._lock)
        self._lock = lock
        self._write(info)
        return True

    def _restore_journal(self) -> bool:
        if self._journal < 0 or _is_at(self._journal, self._spool.journal):
            return True
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._spool.journal, 0o700)
        try:
            journal = lock_journal(self._spool)
        except BlockingIOError:
            return False
        os.close(self._journal)
        self._journal = journal
        return True


def _is_at(fd: int, path: str) -> bool:
    """Whether the open file is the one at the path."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
