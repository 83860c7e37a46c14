"""Moves what is in the queue into the journal, and what processes that have ended left in memory.

Invariants:

* Intake is the only writer of the journal while it runs, and takes bytes out of the pipe only by `splice`: at every
  moment a byte is in the pipe or in the journal, whatever is killed. (Where `splice` is missing or does not work,
  up to 64 KiB are in this process's memory between a read and a write.)
* Frames that come another way (overflows, pipe mirrors) are appended at the border of a frame, never inside one.
* What the disk or the quota does not take stays where it is. It is tried again until it is taken.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable

from ...transport.pipe import pipe_size
from ..system import log
from ..waker import Waker
from .adoption import Adoption
from .appender import Appender
from .quota import QuotaReachedError

BUSY_BYTES = 64 * 1024  # in one splice: after so many or more, intake does not rest
MIN_REST_SECONDS = 0.004  # after a smaller splice: the next one takes several events, instead of one per wake-up
MAX_REST_SECONDS = 0.02
WRITTEN_BYTES = 25_000_000  # that the application writes per second and processor, at most
LOOK_SECONDS = 0.2  # between two looks where poll does not help: a FIFO that never had a writer, a removed FIFO
FULL_SECONDS = 1.0  # between two attempts to append to a full journal when no space was made
NO_WRITERS_SECONDS = 0.05  # between two looks while there are no writers
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.05, 2.0  # before a disk that took nothing is tried again

_log = logging.getLogger(log.NAME)


class Intake:
    """`run` is its thread, which sleeps until something comes through the pipe, or another thread calls a method.

    ``overflows``: the folders of overflows. ``fsync``: seconds between two fsyncs of the journal, 0 for none. ``rest``:
    seconds of rest after a splice of less than `BUSY_BYTES`, unless `set_hurry` says that a process waits.
    ``on_change`` is called by the thread after every append, and when the journal has reached its quota: then call
    `space_made` once segments were deleted. ``last_bytes``: how far the quota may be exceeded once no writers are left,
    for what is in the pipe then is nowhere else.
    """

    def __init__(
        self,
        pipe: int,
        appender: Appender,
        *overflows: str,
        fsync: float = 0.0,
        rest: float = MIN_REST_SECONDS,
        last_bytes: int = 0,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.stopping = threading.Event()
        self._hurry = threading.Event()  # a process waits for what it has logged
        self.eof = threading.Event()  # no process has the queue open for writing, and everything in it is journaled
        self.hung_up = threading.Event()  # no process has the queue open for writing
        self.full = threading.Event()  # the journal has reached its quota
        self._space_made = threading.Event()
        self.restoring = threading.Event()  # set once a second, while this process holds the spool's lock
        self.trouble = ""  # the disk's last error, "" when it takes events
        self._pipe = pipe
        self._coming: int | None = None  # the reading end of a new FIFO at the queue's path, not read yet
        self._appender = appender
        self._fsync = fsync
        self._rest = rest
        self._last_bytes = last_bytes
        self._on_change = on_change
        self._waker = Waker()
        self.adoption = Adoption(appender, overflows, wake=self._waker.wake, on_append=self._took)
        self._had_writers = False
        self._synced_at = time.monotonic()
        self._retry_seconds = 0.0

    def run(self) -> None:
        """Fill the journal until `stopping` is set."""
        while not self.stopping.is_set():
            try:
                self._restore()
                self._take()
                self._sync()
                self.adoption.append_late()
                self.adoption.adopt_found()
            except QuotaReachedError:
                self._wait_for_space()
            except OSError as error:
                if not self._appender.begin_new_segment(error):
                    self._wait_for_disk(error)
        self._appender.close()

    # -- called by the main thread -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """End `run` after the append that is under way."""
        self.stopping.set()
        self._hurry.set()
        self._space_made.set()
        self._waker.wake()

    def set_hurry(self, waits: bool) -> None:
        """Note whether a process waits until its events are delivered."""
        if not self.stopping.is_set():
            (self._hurry.set if waits else self._hurry.clear)()

    def space_made(self) -> None:
        """End the wait for space: segments were deleted."""
        self._space_made.set()

    def restore(self) -> None:
        """Have the journal made again if it was removed. Call it only while this process holds the spool's lock."""
        self.restoring.set()
        if self._appender.writer.is_removed:
            self._waker.wake()

    # -- after a cleaner ---------------------------------------------------------------------------------------------

    def follow(self, pipe: int) -> None:
        """Read this FIFO, which is now at the queue's path, and the earlier one until its writers are gone."""
        self._coming = pipe
        self._waker.wake()

    @property
    def is_following(self) -> bool:
        """Whether a FIFO was passed to `follow` and is not read yet."""
        return self._coming is not None

    def _restore(self) -> None:
        if self.restoring.is_set():
            self.restoring.clear()
            if self._appender.writer.restore():
                _log.warning("the journal was removed, and made again with its last segment")
        if self._coming is not None:
            self.eof.clear()  # it was set for the earlier FIFO
        if self._coming is not None and self._appender.follow(self._coming):
            self._coming = None
            self._had_writers = False  # poll reports that a FIFO has no writers only after it has had one

    def _take_earlier(self) -> None:
        """Take what is in earlier FIFOs, also while nothing is in the pipe."""
        if self._appender.has_earlier and self._appender.splice_earlier(self._extra):
            self._took()

    # -- the pipe ----------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        ready = self._waker.wait(self._patience(), self._pipe).get(self._pipe, 0)
        hung_up = bool(ready & select.POLLHUP)
        (self.hung_up.set if hung_up else self.hung_up.clear)()
        self._had_writers = self._had_writers or bool(ready)
        if not ready and (self._had_writers or not self._never_had_writers()):
            self.eof.clear()
            self._take_earlier()
            return
        moved = self._appender.splice(self._extra)
        if moved == 0:
            self._writers_are_gone()
            return
        self.eof.clear()
        if moved < 0:
            return
        self._took()
        if moved < BUSY_BYTES:
            self._rest_unless_hurried()

    @property
    def _extra(self) -> int:
        """How many bytes are taken above the quota now."""
        return self._last_bytes if self.hung_up.is_set() else 0

    def _rest_unless_hurried(self) -> None:
        if self._hurry.is_set():
            self.stopping.wait(MIN_REST_SECONDS)
        else:
            self._hurry.wait(self._rest)

    def _patience(self) -> float | None:
        """Return how many seconds to wait for the pipe: 0 without writers (it is always ready), None without limit."""
        if self.hung_up.is_set():
            return 0.0
        if not self._had_writers or self._appender.has_earlier or self._coming is not None or self.adoption.late:
            return LOOK_SECONDS
        return self._fsync or None

    def _never_had_writers(self) -> bool:
        """Whether no process has had the queue open for writing since this one opened it: then poll reports nothing."""
        if not self._appender.may_read_pipe:
            return False
        moved = self._appender.probe()
        self._had_writers = moved != 0
        if moved > 0:
            self._took()
        elif moved == 0:
            self.hung_up.set()
        return moved == 0

    def _took(self) -> None:
        """Note that the journal has grown."""
        if self.trouble:
            _log.warning("journal: the disk takes events again")
        self.trouble = ""
        self._retry_seconds = 0.0
        self.full.clear()
        self._on_change()

    def _writers_are_gone(self) -> None:
        self.adoption.adopt()  # before `eof`: an event in an overflow was accepted as much as one in the pipe
        if self.adoption.allowed.is_set() and not self._appender.has_earlier and self._coming is None:
            self.eof.set()
        self._on_change()
        self.stopping.wait(NO_WRITERS_SECONDS)

    # -- the disk ----------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        if self._fsync and time.monotonic() - self._synced_at >= self._fsync:
            self._appender.writer.sync()
            self._synced_at = time.monotonic()

    def _wait_for_space(self) -> None:
        """Wait until the main thread has deleted a segment; events stay in the pipe, then in the overflows."""
        self._space_made.clear()
        self.full.set()
        self._on_change()
        self._space_made.wait(FULL_SECONDS)

    def _wait_for_disk(self, error: OSError) -> None:
        """Wait before the next attempt; events stay in the pipe, then in overflows; what finds no space is counted."""
        if not self.trouble:
            _log.warning("journal: %s; events wait in memory, trying again", error.strerror)
        self.trouble = os.strerror(error.errno) if error.errno else str(error)
        self._retry_seconds = min(max(self._retry_seconds * 2, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
        self.stopping.wait(self._retry_seconds)


def rest_seconds(pipe: int) -> float:
    """Return how many seconds intake may rest without a burst on all processors filling the pipe."""
    seconds = pipe_size(pipe) / (WRITTEN_BYTES * (os.cpu_count() or 1))
    return min(max(seconds, MIN_REST_SECONDS), MAX_REST_SECONDS)
