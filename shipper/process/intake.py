"""queue ──splice──▶ journal, and what killed processes left in their overflows."""

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

from ..journal.writer import Writer
from ..transport.overflow import Abandoned, abandoned
from ..transport.pipe_mirror import waiting_in

_log = logging.getLogger("shipper.process")

MOST = 4 * 1024 * 1024  # more than a pipe holds: one splice takes all that is there
NAP = 0.004  # seconds: a few events a splice, instead of a wake-up for each
BUSY = 64 * 1024  # bytes in one splice from which on there is no nap
LOOK = 200  # milliseconds to wait for data
ADOPT = 0.5  # seconds between two looks for overflows without an owner
LONGEST_PAUSE = 2.0  # seconds between two tries of a disk that is full


class Intake:
    """The only writer of the journal. `run` is its thread; everything public may be read from another one."""

    def __init__(
        self,
        pipe: int,
        writer: Writer,
        *overflows: str,
        fsync: float = 0.0,
        grown: Callable[[], None] = lambda: None,
    ) -> None:
        self.stopping = threading.Event()
        self.eof = threading.Event()  # no process has the queue open for writing, and it is empty
        self.hung_up = threading.Event()  # no process has the queue open for writing; there may be something in it
        self.paused = threading.Event()  # the quota is used up, and the newest are refused
        self.adopting = threading.Event()  # somebody takes `adopted` on: not before, or a crash doubles them
        self.trouble = ""  # what the disk last said, "" when all is well
        self.adopted: queue.SimpleQueue[Abandoned] = queue.SimpleQueue()
        self._late: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._known: set[str] = set()
        self._pipe = pipe
        self._writer = writer
        self._overflows = overflows
        self._fsync = fsync
        self._grown = grown
        self._looked = 0.0
        self._synced = time.monotonic()
        self._pause = 0.0

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        while not self.stopping.is_set():
            try:
                self._take(poller)
                self._sync()
                self._put_back_late()
                self._adopt()
            except OSError as error:
                if not self._moves_on(error):
                    self._wait_for_room(error)
        self._writer.close()

    def _take(self, poller: select.poll) -> None:
        ready = poller.poll(LOOK)
        hung_up = any(event & select.POLLHUP for _, event in ready)
        (self.hung_up.set if hung_up else self.hung_up.clear)()
        if not ready:
            return
        # The last megabyte of writers that are gone has no other place to be.
        if self.paused.is_set() and not hung_up:
            self.stopping.wait(LOOK / 1000)
            return
        moved = self._splice()
        if moved == 0:
            self._writers_are_gone()
            return
        self.eof.clear()
        if moved < 0:
            return
        self._all_is_well()
        if self._writer.is_full and self._is_at_border():
            self._writer.rotate_if_due()
        self._grown()
        if moved < BUSY:
            self.stopping.wait(NAP)

    def _splice(self) -> int:
        try:
            return self._writer.splice(self._pipe, MOST)
        except BlockingIOError:  # a writer came and has not written yet
            return -1

    def _is_at_border(self) -> bool:
        """Whether the journal ends with a whole frame: not so after the disk took a part, or an intake was killed."""
        return waiting_in(self._pipe) == 0 or self._writer.ends_whole()

    @property
    def taken(self) -> int:
        """Bytes that have come out of the pipe."""
        return self._writer.spliced

    def rest(self) -> bytes:
        """What the disk did not take, of writers that are gone, once `run` has ended. Nobody else has it then."""
        pieces = []
        with contextlib.suppress(OSError):
            pieces.append(self._writer.unfinished())
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._pipe, MOST):
                pieces.append(piece)
        return b"".join(pieces)

    def _writers_are_gone(self) -> None:
        # Their overflows first: an event there is as much theirs as one in the pipe.
        self._adopt(now=True)
        if self.adopting.is_set():
            self.eof.set()
        self._grown()
        self.stopping.wait(LOOK / 1000 / 4)

    def _adopt(self, *, now: bool = False) -> None:
        """Take over the overflows of processes that are gone; the journal first, then the file may go."""
        if not self.adopting.is_set() or (not now and time.monotonic() - self._looked < ADOPT):
            return
        self._looked = time.monotonic()
        if not self._is_at_border():  # the rest of a frame comes with the next splice
            return
        for found in itertools.chain(*(abandoned(folder, self._known) for folder in self._overflows)):
            try:
                self.catch_up()
                self._append(found.frames, found.pass_over)
                self._all_is_well()
            except OSError:
                found.close()
                raise
            self._known.add(found.path)
            self.adopted.put(found)
            self._grown()

    def catch_up(self) -> None:
        """What a process that is gone put last may still be in the pipe; the rest of that event must not come first."""
        waiting = waiting_in(self._pipe)
        while waiting > 0 and (moved := self._writer.splice(self._pipe, waiting)):
            waiting -= moved

    def put_back(self, frames: bytes) -> None:
        """What the pipe lost. Before `run`; OSError when the disk does not take all of it."""
        self._append(frames, lambda taken: None)

    def _append(self, frames: bytes, note: Callable[[int], None]) -> None:
        """`note` is told how many bytes are in the journal, and must not come again, also when not all of them are."""
        while frames:
            taken = self._writer.append(frames)
            note(taken)
            frames = frames[taken:]

    def put_back_later(self, frames: bytes, done: Callable[[], None]) -> None:
        """The same while `run` is at work, as soon as the disk takes it; then `done` is called, by its thread."""
        self._late.append((frames, done))

    @property
    def late(self) -> int:
        """How many wait for that."""
        return len(self._late)

    def _put_back_late(self) -> None:
        while self._late and self._is_at_border():
            self._append(self._late[0][0], self._note_late)
            self._all_is_well()
            self._late.popleft()[1]()
            self._grown()

    def _note_late(self, taken: int) -> None:
        frames, done = self._late[0]
        self._late[0] = frames[taken:], done

    def _sync(self) -> None:
        if self._fsync and time.monotonic() - self._synced >= self._fsync:
            self._writer.sync()
            self._synced = time.monotonic()

    def _moves_on(self, error: OSError) -> bool:
        """Whether there is a new segment because the last one is as large as files may be here (`ulimit -f`)."""
        if error.errno != errno.EFBIG:
            return False
        try:
            self._writer.move_on()
        except OSError:
            return False
        return True

    def _wait_for_room(self, error: OSError) -> None:
        """The disk does not take it. It stays in the pipe, then in the overflows; drops there are counted."""
        if not self.trouble:
            _log.warning("journal: %s; events wait in memory, trying again", error.strerror)
        self.trouble = os.strerror(error.errno) if error.errno else str(error)
        self._pause = min(max(self._pause * 2, 0.05), LONGEST_PAUSE)
        self.stopping.wait(self._pause)

    def _all_is_well(self) -> None:
        if self.trouble:
            _log.warning("journal: the disk takes events again")
        self.trouble = ""
        self._pause = 0.0
