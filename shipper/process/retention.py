"""How much of the journal is kept: what a backend has not passed yet, up to the quota."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

from ..config.limits import Spooling
from ..journal.account import Account
from ..journal.cursor import Cursor
from ..journal.cursor_files import saved_positions
from ..journal.segments import Position, punch_hole, release, segments, size_on_disk
from ..spool.layout import Spool
from . import log
from .deliveries import Deliveries
from .intake import Intake

REMOVED_BACKEND_SECONDS = 7 * 24 * 3600.0  # for which the journal is kept for a backend that was removed

_log = logging.getLogger(log.NAME)


class Retention:
    """Deletes segments. Used by the main thread."""

    def __init__(
        self, spool: Spool, spooling: Spooling, account: Account, intake: Intake, deliveries: Deliveries
    ) -> None:
        self._spool = spool
        self._spooling = spooling
        self._account = account
        self._intake = intake
        self._deliveries = deliveries

    def delete_passed(self) -> None:
        """Delete the segments that every cursor has passed; on a full disk, also free what was passed of the last.

        OSError when that fails.
        """
        positions = [*self._deliveries.durable, self._account.position]
        positions += [Position(_segment(saved), 0) for name, saved in self._removed_backends() if self._is_kept(name)]
        least = min(positions)
        release(self._spool.journal, least.segment)
        if self._intake.trouble:
            punch_hole(self._spool.journal, min(least, self._account.durable))

    def _removed_backends(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and cursor of every backend that was delivered to once, and is not in the settings any more."""
        for name, saved in saved_positions(self._spool.cursors).items():
            if not self._deliveries.has_cursor(name):
                yield name, saved

    def _is_kept(self, name: str) -> bool:
        changed = os.stat(self._cursor_path(name)).st_mtime
        return time.time() - changed < REMOVED_BACKEND_SECONDS

    def _cursor_path(self, name: str) -> str:
        return os.path.join(self._spool.cursors, f"{name}.json")

    def keep_quota(self) -> None:
        """When the journal has reached its quota, give up the oldest segment or refuse new events."""
        is_full = size_on_disk(self._spool.journal) >= self._spooling.quota
        floor = segments(self._spool.journal)[0] + 1 if is_full else 0
        self._give_up_removed_backends(floor)
        if self._spooling.when_full == "newest":
            (self._intake.paused.set if is_full else self._intake.paused.clear)()
            return
        if not is_full:
            return
        _log.warning("the journal has reached its quota: its oldest segment is given up, its events count as dropped")
        for deliverer in self._deliveries:
            deliverer.give_up_before(floor)

    def _give_up_removed_backends(self, floor: int) -> None:
        for name, saved in self._removed_backends():
            if _segment(saved) >= floor:
                continue
            path = self._cursor_path(name)
            changed = os.stat(path).st_mtime
            cursor = Cursor(path, self._spool.journal)
            cursor.skip_to(floor)
            cursor.commit()
            cursor.close()
            os.utime(path, (changed, changed))  # this is no use of the backend: it is not kept for longer


def _segment(saved: dict[str, Any]) -> int:
    """The segment in the file of a cursor, the first one when it does not say."""
    segment = saved.get("segment")
    return segment if isinstance(segment, int) else 1
