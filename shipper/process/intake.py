"""Moves what is in the queue into the journal, and what killed processes left in their overflows.

Invariants:

* Intake is the only writer of the journal while it runs, and takes bytes out of the pipe only by `splice`: at every
  moment a byte is in the pipe or in the journal, whatever is killed.
* Frames that come another way (overflows, pipe mirrors) are appended at the border of a frame, never inside one.
* What the disk does not take stays where it is. It is tried again until it is taken.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import queue
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from ..journal.writer import Writer, drain_pipe
from ..transport.orphans import OrphanedOverflow, orphaned_overflows
from ..transport.pipe import bytes_in_pipe
from . import log

MAX_SPLICE_BYTES = 4 * 1024 * 1024  # more than a pipe holds: one splice takes all of it
BUSY_BYTES = 64 * 1024  # in one splice, from which on intake does not rest
REST_SECONDS = 0.004  # after a smaller one: some events a splice, instead of a wake-up for each
POLL_SECONDS = 0.2  # to wait for data
NO_WRITERS_SECONDS = 0.05  # between two looks while there are no writers
ADOPT_SECONDS = 0.5  # between two looks for overflows of processes that have ended
MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.05, 2.0  # before a disk that took nothing is tried again

_log = logging.getLogger(log.NAME)


class Intake:
    """`run` is its thread; everything public may be read from another one.

    ``pipe`` is the reading end of the queue, ``overflows`` the folders of overflows. ``fsync`` seconds between two
    fsyncs of the journal, 0 for none. ``on_growth`` is called after every append, by the thread.
    """

    def __init__(
        self,
        pipe: int,
        writer: Writer,
        *overflows: str,
        fsync: float = 0.0,
        on_growth: Callable[[], None] = lambda: None,
    ) -> None:
        self.stopping = threading.Event()
        self.eof = threading.Event()  # no process has the queue open for writing, and everything in it is journaled
        self.hung_up = threading.Event()  # no process has the queue open for writing
        self.paused = threading.Event()  # set by the quota: take nothing while there are writers
        self.adopting = threading.Event()  # set once the drops in `adopted` can be accounted for
        self.trouble = ""  # the disk's last error, "" when it takes events
        self.adopted: queue.SimpleQueue[OrphanedOverflow] = queue.SimpleQueue()
        self._late: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._known: set[str] = set()
        self._pipe = pipe
        self._writer = writer
        self._overflows = overflows
        self._fsync = fsync
        self._on_growth = on_growth
        self._looked_at = 0.0
        self._synced_at = time.monotonic()
        self._retry_seconds = 0.0

    def run(self) -> None:
        """Fill the journal until `stopping` is set."""
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        while not self.stopping.is_set():
            try:
                self._take(poller)
                self._sync()
                self._append_late()
                self._adopt()
            except OSError as error:
                if not self._begins_new_segment(error):
                    self._wait_for_disk(error)
        self._writer.close()

    # -- the pipe ----------------------------------------------------------------------------------------------------

    def _take(self, poller: select.poll) -> None:
        ready = poller.poll(POLL_SECONDS * 1000)
        hung_up = any(event & select.POLLHUP for _, event in ready)
        (self.hung_up.set if hung_up else self.hung_up.clear)()
        if not ready and not self._never_had_writers():
            return
        # The last megabyte of writers that have ended has no other place.
        if self.paused.is_set() and not hung_up:
            self.stopping.wait(POLL_SECONDS)
            return
        moved = self._splice()
        if moved == 0:
            self._writers_are_gone()
            return
        self.eof.clear()
        if moved < 0:
            return
        self._disk_works()
        if self._writer.is_full and self._is_at_border():
            self._writer.rotate_if_due()
        self._on_growth()
        if moved < BUSY_BYTES:
            self.stopping.wait(REST_SECONDS)

    def _never_had_writers(self) -> bool:
        """Whether no process has had the queue open for writing since this one opened it: then poll reports nothing."""
        moved = self._splice()
        if moved > 0:
            self._on_growth()
        elif moved == 0:
            self.hung_up.set()
        return moved == 0

    def _splice(self) -> int:
        try:
            return self._writer.splice(self._pipe, MAX_SPLICE_BYTES)
        except BlockingIOError:  # a writer came and has not written yet
            return -1

    def _is_at_border(self) -> bool:
        """Whether the journal ends with a whole frame. Not so after the disk took a part, or an intake was killed."""
        return bytes_in_pipe(self._pipe) == 0 or self._writer.ends_whole()

    @property
    def taken(self) -> int:
        """Bytes that have come out of the pipe."""
        return self._writer.spliced

    def rest(self) -> bytes:
        """What the disk did not take, after `run` has ended and no process has the queue open for writing."""
        pieces = []
        with contextlib.suppress(OSError):
            pieces.append(self._writer.unfinished())
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._pipe, MAX_SPLICE_BYTES):
                pieces.append(piece)
        return b"".join(pieces)

    def _writers_are_gone(self) -> None:
        self._adopt(now=True)  # before `eof`: an event in an overflow was accepted as much as one in the pipe
        if self.adopting.is_set():
            self.eof.set()
        self._on_growth()
        self.stopping.wait(NO_WRITERS_SECONDS)

    # -- other sources -----------------------------------------------------------------------------------------------

    def _adopt(self, *, now: bool = False) -> None:
        """Append the overflows of processes that have ended, and hand them on to be accounted for and removed."""
        if not self.adopting.is_set() or (not now and time.monotonic() - self._looked_at < ADOPT_SECONDS):
            return
        self._looked_at = time.monotonic()
        if not self._is_at_border():  # the rest of the frame comes with the next splice
            return
        for found in itertools.chain(*(orphaned_overflows(folder, self._known) for folder in self._overflows)):
            try:
                self.drain_pipe()
                self._append(found.frames, found.skip)
                self._disk_works()
            except OSError:
                found.close()
                raise
            self._known.add(found.path)
            self.adopted.put(found)
            self._on_growth()

    def drain_pipe(self) -> None:
        """Take what is in the pipe now: the beginning of an event there must come before its rest in an overflow."""
        drain_pipe(self._pipe, self._writer)

    def put_back(self, frames: bytes) -> None:
        """Append frames that the pipe lost. Only before `run`. OSError when the disk does not take all of them."""
        self._append(frames, lambda taken: None)

    def _append(self, frames: bytes, on_taken: Callable[[int], None]) -> None:
        """`on_taken` is told how many bytes are in the journal, and must not come again, also before an OSError."""
        while frames:
            taken = self._writer.append(frames)
            on_taken(taken)
            frames = frames[taken:]

    def put_back_later(self, frames: bytes, on_done: Callable[[], None]) -> None:
        """Append frames that the pipe lost as soon as the disk takes them; the thread calls `on_done` then."""
        self._late.append((frames, on_done))

    @property
    def late(self) -> int:
        """How many of those are not in the journal yet."""
        return len(self._late)

    def _append_late(self) -> None:
        while self._late and self._is_at_border():
            self._append(self._late[0][0], self._pass_late)
            self._disk_works()
            self._late.popleft()[1]()
            self._on_growth()

    def _pass_late(self, taken: int) -> None:
        frames, on_done = self._late[0]
        self._late[0] = frames[taken:], on_done

    # -- the disk ----------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        if self._fsync and time.monotonic() - self._synced_at >= self._fsync:
            self._writer.sync()
            self._synced_at = time.monotonic()

    def _begins_new_segment(self, error: OSError) -> bool:
        """Whether the last segment is as large as a file may be here (`ulimit -f`), and there is a new one now."""
        if error.errno != errno.EFBIG:
            return False
        try:
            self._writer.move_on()
        except OSError:
            return False
        return True

    def _wait_for_disk(self, error: OSError) -> None:
        """Events wait in the pipe, then in the overflows of their processes; what they have no space for is counted."""
        if not self.trouble:
            _log.warning("journal: %s; events wait in memory, trying again", error.strerror)
        self.trouble = os.strerror(error.errno) if error.errno else str(error)
        self._retry_seconds = min(max(self._retry_seconds * 2, MIN_RETRY_SECONDS), MAX_RETRY_SECONDS)
        self.stopping.wait(self._retry_seconds)

    def _disk_works(self) -> None:
        if self.trouble:
            _log.warning("journal: the disk takes events again")
        self.trouble = ""
        self._retry_seconds = 0.0
