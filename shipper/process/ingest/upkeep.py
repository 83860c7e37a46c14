"""Protects the spool from cleaners, which remove files that look old, and makes again what they removed.

Once a second, each file that the process needs is compared by inode with the file at its path: another file of the same
name is not trusted. Every 3 seconds, files are touched, so that they do not look old. When another process holds the
lock file or the journal's folder, this one has lost the spool: it hands its events on and ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Iterator

from ...errors import ConfigurationError
from ...journal.reader import SETTLED_NANOSECONDS
from ...spool import host
from ...spool.joined import close_joins, open_joins
from ...spool.layout import Spool
from ...spool.lock import claim
from ...transport import frame
from ...transport.memory.orphans import remove_foreign
from ...transport.pipe import Pipe, grow_pipe
from ..deliveries import Deliveries
from ..system import log
from ..system.lock_file import LockFile
from .intake import Intake

TOUCH_SECONDS = 3.0
CLEAN_SECONDS = 600.0  # between two rounds through the memory files of other apps
LOST_ROUNDS = 3  # in a row in which another process has the lock: a supervisor may have it briefly
RELAY_SECONDS = 10.0  # to hand events on after the spool was lost

_log = logging.getLogger(log.NAME)


class SpoolLostError(Exception):
    """Another process has the spool; the message says which."""


class Upkeep:
    """Used by the main thread. ``pipe`` is the reading end of the queue, which `Intake.follow` replaces."""

    def __init__(self, spool: Spool, lock_file: LockFile, intake: Intake, deliveries: Deliveries, pipe: int) -> None:
        self._spool = spool
        self._lock_file = lock_file
        self._intake = intake
        self._deliveries = deliveries
        self._pipe = pipe
        self._id = spool.read_id()
        self._lost_rounds = 0
        self._touched_at = self._cleaned_at = float("-inf")

    def look(self) -> None:
        """Make again what is missing. SpoolLostError when another process has the spool. OSError: try again later."""
        if self._intake.hung_up.is_set() and not os.path.lexists(self._spool.path):
            return  # the application has ended, and the folder was deleted
        try:
            self._spool.prepare()
            if self._id:
                self._spool.write_id(self._id)
            if not os.path.lexists(self._spool.app):
                claim(self._spool, self._deliveries.settings.app)
        except ConfigurationError as error:
            _log.warning("the spool can't be used: %s", error)
            return
        if not host.keep(self._spool):
            raise SpoolLostError("another host")
        if not self._lock_file.restore():
            self._lost_rounds += 1
            if self._lost_rounds >= LOST_ROUNDS:
                raise SpoolLostError("another process, which was started after the folder had been removed,")
            return
        self._lost_rounds = 0
        log.reopen_if_removed()
        self._intake.restore()
        self._follow_queue()
        if time.monotonic() - self._cleaned_at >= CLEAN_SECONDS:
            self._cleaned_at = time.monotonic()
            self._remove_foreign()
        if time.monotonic() - self._touched_at >= TOUCH_SECONDS:
            self._touched_at = time.monotonic()
            self._touch()

    def has_other_queue(self) -> bool:
        """Whether the FIFO at the queue's path is not the one that intake reads, or is missing and will be made again.

        Then intake's FIFO may have no writers although processes still log.
        """
        with contextlib.suppress(FileNotFoundError):
            return not os.path.samestat(os.fstat(self._pipe), os.lstat(self._spool.queue))
        return os.path.lexists(self._spool.path)  # if not, the spool was deleted

    def _follow_queue(self) -> None:
        """Have intake read the FIFO that is now at the queue's path, and the earlier one until its writers are gone."""
        if self._intake.is_following or not self.has_other_queue():
            return
        pipe = os.open(self._spool.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            os.close(pipe)
            return
        _log.warning("the queue of the spool was removed, and made again")
        grow_pipe(pipe)
        self._intake.follow(pipe)

    def open_joins(self, joins: int) -> int:
        """The descriptor of the FIFO for joined backends: the given one, or another when a cleaner has removed it."""
        with contextlib.suppress(OSError):
            if joins < 0 or not os.path.samestat(os.fstat(joins), os.lstat(self._spool.joins)):
                opened = open_joins(self._spool.joins)
                if opened >= 0:
                    close_joins(joins)
                    return opened
        return joins

    def _remove_foreign(self) -> None:
        """Remove memory files that no process will come back for: all apps of the user share the memory."""
        removed = remove_foreign(self._spool.overflow)
        if removed:
            _log.info("%d files of other apps' processes that are gone were removed from memory", len(removed))

    def _touch(self) -> None:
        for path in self._paths():
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)
        with contextlib.suppress(OSError):
            # Not the current time: readers list the journal's folder at each read while its time is recent.
            past = time.time_ns() - 2 * SETTLED_NANOSECONDS
            os.utime(self._spool.journal, ns=(past, past), follow_symlinks=False)

    def _paths(self) -> Iterator[str]:
        """Yield what to touch: everything in the spool but the journal's folder and the files whose age has a meaning.

        Those are the cursors of removed backends, the kept segments, and the status, whose time is a sign of life.
        """
        spool = self._spool
        others = (spool.status, spool.journal)
        yield spool.path
        for folder in (spool.path, spool.journal, spool.dead, spool.damaged, spool.overflow_on_disk):
            with contextlib.suppress(OSError):
                yield from [entry.path for entry in os.scandir(folder) if entry.path not in others]
        for name in self._deliveries.names:
            for suffix in (".json", ".encoding"):
                yield os.path.join(spool.cursors, name + suffix)

    def relay(self, events: bytes) -> None:
        """Write events that are not delivered yet into the queue of the process that has the spool now."""
        pipe, deadline = Pipe(self._spool.queue), time.monotonic() + RELAY_SECONDS
        found = frame.scan(events, complete=True).frames
        for view in found:
            while not pipe.write(events[view.start : view.end]) and time.monotonic() < deadline:
                pipe.wait_writable(50)
        _log.warning("%d frames were handed on to the process that has the spool", len(found))
