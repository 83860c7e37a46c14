"""Kept segments: delivered segments that are not deleted for a while, to be read or sent again.

Protects from: a service that lost events, or was configured wrongly, and from an error whose log lines only a service
has. How likely: as likely as an operator's mistake. Costs: nothing while `spooling.keep` is 0; otherwise one rename per
segment, and the disk space that the setting names. It meets retention (which moves segments here instead of deleting
them), a full disk (kept segments go first), `history.py` (which reads both folders), cursors and the account (which
never read here).

Invariants: a kept segment counts neither towards the quota nor as a backend's backlog. No cursor reads it, so a backend
that is new, or whose cursor file was lost, does not get its events.

On disk: `<folder>/000000000001.seg`, the journal's own files under their own names; a file's time is when it was kept.
The main thread of the shipper process moves and deletes them; commands read them at any time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from ..spool.owner import make_folder
from .segments import segment_path, segments

FREE_BYTES = 1024 * 1024 * 1024  # that stay free, or a tenth of the file system where that is less


class Kept:
    """The kept segments in ``folder``: at most ``max_bytes`` of them, or those of the last ``max_seconds``.

    ``spare`` returns how many bytes a folder's file system has beyond those that stay free; negative: too few.
    """

    def __init__(
        self,
        folder: str,
        *,
        max_bytes: int = 0,
        max_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
        spare: Callable[[str], int] | None = None,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._clock = clock
        self._spare = spare or spare_bytes

    @property
    def is_wanted(self) -> bool:
        """Whether anything is kept."""
        return bool(self._max_bytes) if self._max_seconds is None else self._max_seconds > 0

    def take(self, path: str) -> None:
        """Keep the journal's segment at this path; delete it if none are kept or that fails. OSError from deleting."""
        if not self.is_wanted:
            os.unlink(path)
            return
        try:
            with contextlib.suppress(FileExistsError):
                make_folder(self._folder)
            now = self._clock()
            os.utime(path, (now, now))
            os.rename(path, os.path.join(self._folder, os.path.basename(path)))
        except OSError:  # on a full disk, or something else lies in its place
            os.unlink(path)

    def prune(self) -> None:
        """Delete the oldest kept segments beyond the limit, and those whose space the file system needs."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = [(number, *self._size_and_age(number)) for number in segments(self._folder)]
            needed = max(0, -self._spare(self._folder)) if found else 0
            total = sum(size for _, size, _ in found)
            for number, size, age in found:
                is_over = total > self._max_bytes if self._max_seconds is None else age >= self._max_seconds
                if not is_over and needed <= 0:
                    break
                self._delete(number)
                total -= size
                needed -= size

    def _size_and_age(self, number: int) -> tuple[int, float]:
        path = segment_path(self._folder, number)
        try:
            found = os.stat(path)
        except OSError:
            return 0, 0.0
        now = self._clock()
        if found.st_mtime > now:  # the clock was set back: its time begins anew, or it would be kept for too long
            with contextlib.suppress(OSError):
                os.utime(path, (now, now))
        return found.st_size, max(0.0, now - found.st_mtime)

    def clear(self) -> bool:
        """Delete all kept segments, for a full disk; return whether there were any."""
        try:
            found = segments(self._folder)
        except OSError:
            return False
        for number in found:
            self._delete(number)
        return bool(found)

    def _delete(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.unlink(segment_path(self._folder, number))


def spare_bytes(folder: str) -> int:
    """Return the bytes free for this user in the file system, beyond those that stay free; negative: too few."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize - min(FREE_BYTES, found.f_blocks * found.f_frsize // 10)
