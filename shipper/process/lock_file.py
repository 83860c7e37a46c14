"""What the running process publishes in the lock file: its pid, and where its settings can be read."""

from __future__ import annotations

import os

from ..config.settings import Settings
from ..spool.joined import publish_settings
from ..spool.kernel import boot_id, namespace
from ..spool.lock import LockInfo


class LockFile:
    """The open and locked lock file of the spool."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._settings = 0

    def publish(self, settings: Settings) -> None:
        """Write pid and digest, and the descriptor from which others read the settings."""
        file = publish_settings(settings)
        if file and self._settings:
            # The same number as before: a process that has just read it must not open another file.
            os.dup2(file, self._settings, inheritable=False)
            os.close(file)
        self._settings = self._settings or file
        info = LockInfo.read(self._lock)
        info = info._replace(pid=os.getpid(), digest=settings.digest, settings=self._settings)
        info._replace(boot=boot_id(), pids=namespace("pid")).write(self._lock)
