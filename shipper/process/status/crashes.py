"""Crashes of the shipper process in a row: counted in `crash.json` of the spool, and reported once on stderr.

A process notes its start in the file, and an unexpected error that ends it. A process also counts a crash when the last
one started less than `QUICK_SECONDS` ago and noted neither an error nor an orderly end: it was killed, or a fault in a
C library ended it. A process that has run for `HEALTHY_SECONDS`, or that ends as it should, removes the file.
Read by `shipper.report`.

    count of crashes · reason of the last one · at: when the last process started or crashed, seconds since the epoch ·
    silent: whether it has noted no error · said: whether the crashes in a row were reported on stderr
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import asdict, dataclass, replace

from ...spool.files import get_float, get_int, get_str, read_json, write_atomically
from ..system import log

LOOP = 3  # crashes in a row after which one error is logged, and which the status shows
SILENT_LOOP = 5  # the same for processes that were killed, or ended without an error
QUICK_SECONDS = 5.0  # between two starts, at most, for the first process to count as one that crashed without an error
HEALTHY_SECONDS = 30.0  # of run time after which earlier crashes are forgotten

_NO_REASON = "it ended soon after its start without an error: killed, out of memory, or by a fault in a C library"

_log = logging.getLogger(log.NAME)


@dataclass(frozen=True)
class _Record:
    """The content of the file: see the module's docstring."""

    count: int = 0
    reason: str = ""
    at: float = 0.0
    silent: bool = False
    said: bool = False


class Crashes:
    """The record of a spool's crashes, at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._started = time.monotonic()
        self._is_cleared = False

    def note_start(self) -> None:
        """Note that this process starts. Count a crash if the last one ended soon, without an error."""
        last = self._read()
        is_crash = last.silent and 0 <= time.time() - last.at < QUICK_SECONDS
        if last.silent and not is_crash:
            last = _Record()
        now = replace(last, at=time.time(), silent=True)
        if is_crash:
            now = replace(now, count=last.count + 1, reason=_NO_REASON)
        self._write(self._say_loop(now, SILENT_LOOP))

    def report(self, error: BaseException) -> None:
        """Log an unexpected error: the traceback to the log file, one line to stderr for the first one and the loop."""
        last = self._read()
        now = _Record(last.count + 1, f"{type(error).__name__}: {error}", time.time(), False, last.said)
        _log.info("the shipper process ends after an unexpected error", exc_info=error)
        if now.count == 1:
            _log.warning("the shipper process ends after an unexpected error (%s); another one is started", now.reason)
        self._write(self._say_loop(now, LOOP))

    def _say_loop(self, record: _Record, loop: int) -> _Record:
        if record.said or record.count < loop:
            return record
        _log.error(
            "the shipper process has crashed %d times in a row: %s. Events wait in the journal; it is started again, "
            "up to every 10 s. See %s",
            record.count,
            record.reason,
            os.path.join(os.path.dirname(self._path), "shipper.log"),
        )
        return replace(record, said=True)

    def clear_if_healthy(self) -> None:
        """Forget the crashes once this process has run for a while."""
        if not self._is_cleared and time.monotonic() - self._started >= HEALTHY_SECONDS:
            self.clear()

    def clear(self) -> None:
        self._is_cleared = True
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _read(self) -> _Record:
        data = read_json(self._path) or {}
        count, at = max(0, get_int(data, "count")), get_float(data, "at")
        return _Record(count, get_str(data, "reason"), at, data.get("silent") is True, data.get("said") is True)

    def _write(self, record: _Record) -> None:
        with contextlib.suppress(OSError):
            write_atomically(self._path, asdict(record))
