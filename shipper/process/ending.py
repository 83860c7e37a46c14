"""The end of the process: requests under way finish, and the last events are saved."""

from __future__ import annotations

import contextlib
import logging
import os
import time

from ..transport.memory.orphans import count_events
from ..transport.memory.overflow import write_orphan
from .housekeeping import Housekeeping
from .ingest.quota import QuotaReachedError
from .parts import Parts
from .system import log
from .threads import Threads

END_SECONDS = 3.0  # for requests under way to finish, and then for intake
MAX_QUOTA_ROUNDS = 1000  # of deleting segments to make space for what is in the pipe

_log = logging.getLogger(log.NAME)


class Ending:
    """Ends the parts in order. Events that are not delivered by then stay in the journal."""

    def __init__(self, parts: Parts, housekeeping: Housekeeping, intake_thread: Threads) -> None:
        self._parts = parts
        self._housekeeping = housekeeping
        self._intake_thread = intake_thread

    def end(self) -> None:
        parts = self._parts
        # Deliverers first: while their last requests end, intake still empties the pipe.
        parts.deliveries.stop(time.monotonic() + END_SECONDS)
        parts.intake.stop()
        self._intake_thread.join(END_SECONDS)
        with contextlib.suppress(OSError):
            parts.account.follow(10_000)
            self._housekeeping.account_for_adopted()
            parts.account.save()
            parts.retention.delete_passed()
        parts.status.write(last=True)
        if not self._intake_thread.are_alive:
            self._save_last_events()
        spool = parts.spool
        for folder in (spool.overflow_on_disk, spool.overflow, os.path.dirname(spool.overflow)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        parts.crashes.clear()
        _log.info("ended")

    def _save_last_events(self) -> None:
        """Save what processes wrote after intake had ended."""
        parts = self._parts
        with contextlib.suppress(OSError):
            parts.recovery.look()
        with contextlib.suppress(OSError):
            self._drain_pipe()
        untaken = self._save_untaken()
        parts.appender.close()
        parts.recovery.end(all_journaled=not untaken)

    def _drain_pipe(self) -> None:
        """Move what is in the pipe into the journal. OSError when the disk does not take all of it.

        What the quota does not take after `MAX_QUOTA_ROUNDS` rounds stays in the pipe.
        """
        for _ in range(MAX_QUOTA_ROUNDS):
            with contextlib.suppress(QuotaReachedError):
                self._parts.appender.drain_pipe()
                return
            self._parts.retention.keep_quota()

    def _save_untaken(self) -> bool:
        """Save what the journal did not take when no process has the pipe open for writing; whether there was any.

        The content of such a pipe is lost when this process ends.
        """
        parts = self._parts
        if not parts.intake.hung_up.is_set() or not (untaken := parts.appender.untaken()):
            return False
        try:
            write_orphan(parts.spool.overflow, untaken)
        except OSError as error:
            parts.account.note_drops(f"{os.urandom(8).hex()}-0", os.getpid(), count_events(untaken))
            _log.error("disk and memory are full: the events in the pipe are lost, and counted as dropped (%s)", error)
            with contextlib.suppress(OSError):
                parts.account.save()
            parts.status.write(last=True)
        return True
