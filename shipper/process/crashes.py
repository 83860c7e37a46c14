"""Crashes of the shipper process in a row: counted in `crash.json` of the spool, and said once.

Written by the process when an unexpected error ends it, and at its start, when the processes before it ended so soon
that they must have been killed or have exited without a word. Removed by a process that has run for `HEALTHY_SECONDS`
or that ended as it should. Read by `shipper.report`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time

from ..spool.files import get_int, get_str, read_json, write_atomically
from . import log

LOOP = 3  # crashes in a row that are said loudly, and that the status shows
HEALTHY_SECONDS = 30.0  # after which a process has not crashed at its start

_NO_REASON = "it ended soon after its start without an error: killed, out of memory, or by a fault in a C library"

_log = logging.getLogger(log.NAME)


class Crashes:
    """The record of a spool's crashes, at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._started = time.monotonic()
        self._is_cleared = False

    def count_silent(self, quick: int) -> None:
        """``quick`` processes in a row have ended soon after their start: those that gave no reason count too."""
        count, reason = self._read()
        if quick >= LOOP > count:
            self._write(quick, reason or _NO_REASON)
            self._say(quick, reason or _NO_REASON)

    def report(self, error: BaseException) -> None:
        """Log an unexpected error: the traceback to the log file, one line to stderr for the first one and the loop."""
        count, _ = self._read()
        count += 1
        reason = f"{type(error).__name__}: {error}"
        self._write(count, reason)
        _log.info("the shipper process ends after an unexpected error", exc_info=error)
        if count == 1:
            _log.warning("the shipper process ends after an unexpected error (%s); another one is started", reason)
        elif count == LOOP:
            self._say(count, reason)

    def _say(self, count: int, reason: str) -> None:
        _log.error(
            "the shipper process has crashed %d times in a row: %s. Events wait in the journal; it is started again, "
            "up to every 10 s. See %s",
            count,
            reason,
            os.path.join(os.path.dirname(self._path), "shipper.log"),
        )

    def clear_if_healthy(self) -> None:
        """Forget the crashes once this process has run for a while."""
        if not self._is_cleared and time.monotonic() - self._started >= HEALTHY_SECONDS:
            self.clear()

    def clear(self) -> None:
        self._is_cleared = True
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _read(self) -> tuple[int, str]:
        data = read_json(self._path) or {}
        return max(0, get_int(data, "count")), get_str(data, "reason")

    def _write(self, count: int, reason: str) -> None:
        with contextlib.suppress(OSError):
            write_atomically(self._path, {"count": count, "reason": reason, "at": time.time()})
