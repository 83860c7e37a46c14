"""How much of the journal is kept: what a backend has not passed yet, up to the quota."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

from ...config.limits import Spooling
from ...journal.account import Account
from ...journal.cursors.cursor import Cursor
from ...journal.cursors.cursor_files import saved_positions
from ...journal.kept import Kept
from ...journal.segments import Position, punch_hole, release, segment_size, segments
from ...spool.layout import Spool
from ..deliveries import Deliveries
from ..system import log
from .intake import Intake

REMOVED_BACKEND_SECONDS = 7 * 24 * 3600.0  # for which a removed backend's events stay in the journal

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
        self._kept = Kept(spool.kept, max_bytes=spooling.keep, max_seconds=spooling.keep_seconds)

    def delete_passed(self) -> None:
        """Delete the segments that every cursor has passed, or move them to the kept segments. OSError when that fails.

        On a full disk, delete them and the kept ones; if none were kept, free the passed part of the first one left.
        """
        is_disk_full = bool(self._intake.trouble)
        with contextlib.suppress(OSError):  # first: what is deleted can't be counted again after a crash
            self._account.save()
        positions = [*self._deliveries.durable, self._account.position]
        positions += [Position(_segment(saved), 0) for name, saved in self._removed_backends() if self._is_kept(name)]
        least = min(positions)
        release(self._spool.journal, least.segment, remove=os.unlink if is_disk_full else self._kept.take)
        self._kept.prune()
        if is_disk_full and not self._kept.clear():
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
        """Bring the journal below its quota: delete what every cursor has passed, then give up the oldest segments.

        It gives up as many as necessary, at once. With ``when_full="newest"`` new events are refused instead; then only
        removed backends give up events, and the others incomplete events whose rest is refused. OSError on failure.
        """
        if not self._first_to_keep():
            return
        self.delete_passed()
        if floor := self._first_to_keep():
            self._give_up_removed_backends(floor)
            self.delete_passed()
        floor = self._first_to_keep()
        if floor and (self._spooling.when_full == "oldest" or self._rest_is_refused(floor)):
            _log.warning("the journal has reached its quota: its oldest events are given up, and count as dropped")
            for deliverer in self._deliveries:
                deliverer.give_up_before(floor)
            while self._account.position.segment < floor and self._account.follow():
                pass
            self.delete_passed()

    def _rest_is_refused(self, floor: int) -> bool:
        """Whether only events whose rest is refused keep the journal at its quota: it would never take events again."""
        holding = [each for each in self._deliveries if each.progress.position.segment < floor]
        return bool(holding) and all(each.waits_for_rest for each in holding)

    def _first_to_keep(self) -> int:
        """The number of the first segment that can stay below the quota; 0 when all can. The last one always stays."""
        sizes = {number: segment_size(self._spool.journal, number) for number in segments(self._spool.journal)}
        total = sum(sizes.values())
        if total < self._spooling.quota:
            return 0
        for number, size in sizes.items():
            if total < self._spooling.quota:
                return number
            total -= size
        return max(sizes)

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
            os.utime(path, (changed, changed))  # as before: this must not extend the time for which its events stay


def _segment(saved: dict[str, Any]) -> int:
    """The segment in the content of a cursor's file, 1 when it names none."""
    segment = saved.get("segment")
    return segment if isinstance(segment, int) else 1
