"""How many bytes the journal may still take."""

from __future__ import annotations

import errno
import os

from ...journal.segments import size_on_disk


class QuotaReachedError(OSError):
    """The journal may take nothing more until segments are deleted."""

    def __init__(self) -> None:
        super().__init__(errno.EDQUOT, os.strerror(errno.EDQUOT))


class Quota:
    """The budget of the journal in ``folder``: ``limit`` bytes. Used by the thread that appends.

    Other threads delete segments only, so the size that is counted here is never too low; the files are measured when
    the budget seems to be used up.
    """

    def __init__(self, folder: str, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._size: int | None = None

    def remaining(self) -> int:
        """Bytes that may still be appended, 0 or less when there are none."""
        if self._size is None or self._size >= self._limit:
            self._size = size_on_disk(self._folder)
        return self._limit - self._size

    def grew(self, appended: int) -> None:
        """Note that ``appended`` bytes were appended."""
        if self._size is not None:
            self._size += appended
