"""Waits until the shipper process says that a mark is in the journal, or that every backend has passed it.

Both are in the spool's file `progress`, which is read every few milliseconds, and in `status.json`, which is read four
times a second in case `progress` is missing or no longer written.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from ...spool.controls import ControlsReader
from ...spool.files import get_dict, read_json
from ...spool.layout import Spool
from ...spool.progress import STATUS_FILE, Place, ProgressReader

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.005  # seconds between two looks at the progress
STATUS_SECONDS = 0.25  # between two readings of the status file
GRACE_SECONDS = 0.25  # to wait for `status.json` to agree with `progress`: the caller may read it next


class FlushWait:
    """One flush: the mark ``number`` of the process ``token``, and the backends that have to pass it.

    Unless ``delivered``, the mark only has to be in the journal. Paused backends are not waited for, see `paused`.
    """

    def __init__(self, spool: Spool, backends: Sequence[str], token: bytes, number: int, delivered: bool) -> None:
        self._status = spool.status
        self._backends = backends
        self._token = token
        self._number = number
        self._delivered = delivered
        self._controls = ControlsReader(spool)
        self._controls.look()
        self._progress = ProgressReader(spool.progress)
        self._path = spool.progress
        self._read_at = time.monotonic()
        self._passed_at: float | None = None

    @property
    def paused(self) -> list[str]:
        """The backends that are not waited for, because they are paused."""
        return [name for name in self._backends if name in self._controls.controls.paused] if self._delivered else []

    def pauses(self) -> Iterator[float]:
        """Yield the seconds to wait before each next look, until the flush is done."""
        pause = FIRST_PAUSE
        while not self._is_done():
            yield pause
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _is_done(self) -> bool:
        now = time.monotonic()
        place = self._progress.mark(self._token, self._number)
        if place is not None and self._has_passed(place, now):
            return True
        if now - self._read_at < STATUS_SECONDS:
            return False
        self._read_at = now
        self._controls.look()
        self._reopen()
        return self._status_says_so()

    @property
    def _awaited(self) -> list[str]:
        return [name for name in self._backends if name not in self._controls.controls.paused]

    def _has_passed(self, place: Place, now: float) -> bool:
        if not self._delivered:
            return True
        if not self._progress.have_passed(self._awaited, place):
            return False
        if self._passed_at is None:
            self._passed_at = now
        return self._progress.have_passed([STATUS_FILE], place) or now - self._passed_at >= GRACE_SECONDS

    def _reopen(self) -> None:
        """Open the progress file again: it may have been made or replaced since."""
        self._progress.close()
        self._progress = ProgressReader(self._path)

    def _status_says_so(self) -> bool:
        status = read_json(self._status) or {}
        with contextlib.suppress(LookupError, TypeError, ValueError):  # damaged; the process will write a new one
            reached, *place = get_dict(status, "marks")[self._token.hex()]
            if reached < self._number:
                return False
            backends = get_dict(status, "backends")
            return not self._delivered or all(backends[name]["position"] >= place for name in self._awaited)
        return False

    def close(self) -> None:
        self._progress.close()
