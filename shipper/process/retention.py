"""What of the journal is kept: what somebody has not passed yet, up to the quota."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from ..config.limits import Spooling
from ..journal.account import Ledger
from ..journal.cursor import Cursor
from ..journal.cursor_files import saved_positions
from ..journal.segments import segments, size_on_disk
from ..journal.writer import Position, punch, release
from ..spool.layout import Spool
from . import log
from .intake import Intake

if TYPE_CHECKING:
    from ..delivery.deliverer import Deliverer

FORGOTTEN = 7 * 24 * 3600.0  # seconds that the journal is kept for a backend that is no longer configured

_log = logging.getLogger(log.NAME)


class Retention:
    """Deletes segments. ``deliverers``, and ``mine``, the names of their cursors' files, may grow meanwhile."""

    def __init__(
        self,
        spool: Spool,
        spooling: Spooling,
        ledger: Ledger,
        intake: Intake,
        deliverers: Sequence[Deliverer],
        mine: Container[str],
    ) -> None:
        self._spool = spool
        self._spooling = spooling
        self._ledger = ledger
        self._intake = intake
        self._deliverers = deliverers
        self._mine = mine

    def release(self) -> None:
        """Delete the segments that everybody has passed; on a full disk, what everybody has passed of the last too."""
        positions = [deliverer.durable for deliverer in self._deliverers]
        positions.append(self._ledger.position)
        for name, saved in saved_positions(self._spool.cursors).items():
            if f"{name}.json" not in self._mine and self._is_remembered(name):
                positions.append(Position(_segment(saved), 0))
        least = min(positions)
        release(self._spool.journal, least.segment)
        if self._intake.trouble:
            punch(self._spool.journal, min(least, self._ledger.durable))

    def _is_remembered(self, name: str) -> bool:
        changed = os.stat(os.path.join(self._spool.cursors, f"{name}.json")).st_mtime
        return time.time() - changed < FORGOTTEN

    def keep_quota(self) -> None:
        """Give up the oldest segment, or refuse what comes, once the journal has used up its quota."""
        spooling = self._spooling
        size = size_on_disk(self._spool.journal)
        floor = segments(self._spool.journal)[0] + 1 if size >= spooling.quota else 0
        self._give_up_removed_backends(floor)
        if spooling.when_full == "newest":
            (self._intake.paused.set if size >= spooling.quota else self._intake.paused.clear)()
            return
        if size < spooling.quota:
            return
        _log.warning("the journal has used up its quota: its oldest segment is given up, and its events are counted")
        for deliverer in self._deliverers:
            deliverer.floor = max(deliverer.floor, floor)
            deliverer.wake.set()

    def _give_up_removed_backends(self, floor: int) -> None:
        """What is kept for a backend that is no longer configured goes first."""
        for name, saved in saved_positions(self._spool.cursors).items():
            if f"{name}.json" in self._mine or _segment(saved) >= floor:
                continue
            path = os.path.join(self._spool.cursors, f"{name}.json")
            changed = os.stat(path).st_mtime
            cursor = Cursor(path, self._spool.journal)
            cursor.skip_to(floor)
            cursor.commit()
            cursor.close()
            os.utime(path, (changed, changed))  # it is not remembered any longer for that


def _segment(saved: dict[str, Any]) -> int:
    """Where a cursor that is none of ours stands; the first segment, when its file does not say."""
    segment = saved.get("segment")
    return segment if isinstance(segment, int) else 1
