"""What the main thread does once a second, and what it does for intake and the account at any time."""

from __future__ import annotations

import contextlib
import logging
import os
import time

from .ingest.upkeep import SpoolLostError
from .parts import Parts
from .system import log
from .threads import EXIT_FAILED

HOUSEKEEPING_SECONDS = 1.0
RETENTION_SECONDS = 10.0  # between two looks at the segments while nothing happens

_log = logging.getLogger(log.NAME)


class Housekeeping:
    """Looks after the spool, the account, the quota, and the files of processes that have ended."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._done_at = self._retained_at = float("-inf")
        self._was_active = True

    def seconds_until_due(self) -> float:
        """Return in how many seconds `do_if_due` has to be called."""
        return self._done_at + HOUSEKEEPING_SECONDS - time.monotonic()

    def do_if_due(self, *, is_idle: bool) -> bool:
        """Do the work if a second has passed; whether it had. ``is_idle``: nothing has happened since the last call."""
        self._was_active = self._was_active or not is_idle
        now = time.monotonic()
        if now - self._done_at < HOUSEKEEPING_SECONDS:
            return False
        self._done_at = now
        parts = self._parts
        self._keep_spool()
        parts.control.look()
        parts.crashes.clear_if_healthy()
        with contextlib.suppress(OSError):
            parts.account.save()
        if self._was_active or now - self._retained_at >= RETENTION_SECONDS:
            self._was_active, self._retained_at = False, now
            with contextlib.suppress(OSError):
                parts.retention.delete_passed()
                parts.retention.keep_quota()
        with contextlib.suppress(OSError):
            if parts.deaths is not None:  # first: it opens the descriptors that tell how a process ends
                parts.deaths.look()
            parts.recovery.look()
        if parts.intake.adoption.allowed.is_set():
            parts.intake.adoption.look_for_orphans()
        return True

    def _keep_spool(self) -> None:
        """Restore what was removed; end at once when another process has the spool, as a journal has one writer."""
        parts = self._parts
        try:
            parts.upkeep.look()
        except OSError as error:
            _log.warning("a part of the spool can't be made again: %s", error)
        except SpoolLostError as error:
            _log.error("the process ends because %s uses the spool %s", error, parts.spool.path)
            with contextlib.suppress(OSError):
                parts.upkeep.relay(parts.appender.writer.read_from(min(parts.deliveries.durable)))
            logging.shutdown()
            os._exit(EXIT_FAILED)

    def make_space(self) -> None:
        """Bring the journal below its quota, as intake waits for space. The next round tries again when it fails."""
        with contextlib.suppress(OSError):
            self._parts.retention.keep_quota()
        self._parts.intake.space_made()

    def account_for_adopted(self) -> None:
        """Save what ended processes dropped, then remove the overflows that tell it. OSError when it can't be saved."""
        intake, account = self._parts.intake, self._parts.account
        while not intake.adoption.adopted.empty():
            found = intake.adoption.adopted.get()
            account.note_drops(found.name, found.pid, found.drops)
            try:
                account.save()
            except OSError:
                intake.adoption.adopted.put(found)
                raise
            found.remove()
