"""One process's state of the queue: token, sequence numbers, overflow and mirror.

Invariants
* Frames get into the pipe in the order in which they were offered: while the overflow is busy, new ones queue up there.
* A frame is noted in the mirror only after the pipe has it.
* While the overflow holds frames, a thread moves them into the pipe (if one can be started), and then ends.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections.abc import Callable

from .._support import unpatched
from .._support.unpatched import new_rlock, start_thread
from . import frame
from .memory.overflow import Overflow
from .memory.pipe_mirror import PipeMirror, frames_of_event
from .pipe import POLL_MS, Pipe


def new_token() -> bytes:
    """8 random bytes that name a process, with a version 4 nibble so that event ids are proper UUIDs."""
    token = bytearray(os.urandom(8))
    token[6] = 0x40 | token[6] & 0x0F
    return bytes(token)


def milliseconds(left: float | None) -> int:
    """Return how many milliseconds to wait in one step when ``left`` seconds are left (None: no limit)."""
    return POLL_MS if left is None else max(1, int(min(left * 1000 + 1, POLL_MS)))


class Channel:
    """The state of one process. A forked child makes its own, with another token and an empty overflow.

    ``folder`` is for overflow and mirror, ``second`` for the overflow when ``folder`` has little space; ``limit`` is
    the overflow's, in bytes. ``is_watched``: the shipper process reports an end without `note_clean_end` or `close`.
    """

    def __init__(self, pipe: Pipe, *, folder: str, second: str, limit: int, is_watched: bool = False) -> None:
        self._is_watched = is_watched
        self._spool = os.path.dirname(pipe.path)
        self.pid = os.getpid()
        self.token = new_token()
        self.sequence = itertools.count()
        self.overflow = Overflow(folder, token=self.token, pid=self.pid, limit=limit, second=second, spool=self._spool)
        self.note: Callable[[bytes], None] = self._begin_mirror
        self._pipe = pipe
        self._mirror: PipeMirror | None = None
        # No mirror on a disk: writing to its memory could block.
        self._mirror_folder = folder if folder != second else ""
        self._marks = itertools.count(1)
        self._lock = new_rlock()
        self._is_beginning = False
        self._draining = False

    @property
    def emitted(self) -> int:
        """How many sequence numbers were given out."""
        # The counter is safe with threads and signal handlers, but its value can only be read from its repr.
        return int(repr(self.sequence)[6:-1])

    def open(self) -> None:
        """Open the pipe and begin the mirror now rather than at the first frame. OSError when it can't be opened."""
        self._pipe.open()
        self.note(b"")

    def write(self, piece: bytes) -> bool:
        """Write one frame into the pipe, and note it; False when the pipe does not take it now."""
        if not self._pipe.write(piece):
            return False
        self.note(piece)
        return True

    def offer(self, frames: list[bytes], level: int) -> bool:
        """Write an event's frames into the pipe or the overflow; False when neither has space."""
        if self.overflow.busy:
            return self._queue_up(frames, level, begun=False)
        for done, piece in enumerate(frames):
            if not self.write(piece):
                return self._queue_up(frames[done:], level, begun=done > 0)
        return True

    def mark(self) -> int | None:
        """Put a mark after everything that was offered; return its number, None without space."""
        number = next(self._marks)
        level = frame.MAX_LEVEL
        frames = frame.encode(b"", token=self.token, seq=number, pid=self.pid, level=level, flags=frame.MARK)
        return number if self.offer(frames, level) else None

    def _begin_mirror(self, piece: bytes) -> None:
        """Make the mirror, unless there is no memory for it, and note the first frame in it."""
        with self._lock:
            if self._is_beginning:  # a signal handler logs while this thread is in here
                return
            self._is_beginning = True
            try:
                if self.note == self._begin_mirror:  # else another thread has begun it
                    self.note = self._make_mirror() if self._mirror_folder else _ignore
            finally:
                self._is_beginning = False
        if self.note != self._begin_mirror:
            self.note(piece)

    def _make_mirror(self) -> Callable[[bytes], None]:
        try:
            self._mirror = PipeMirror(
                self._mirror_folder,
                self._pipe.waiting,
                token=self.token,
                pid=self.pid,
                spool=self._spool,
                life=self._describe_life(),
            )
        except (OSError, ValueError) as error:
            # After EBADF (other code closes descriptors right now) the next frame tries again.
            return self._begin_mirror if isinstance(error, OSError) and error.errno == errno.EBADF else _ignore
        self._pipe.on_closed = self._mirror.keep_all
        return self._mirror.note

    def _describe_life(self) -> bytes:
        if not self._is_watched:
            return b""
        try:
            from .memory.life import describe_life  # needed only with `report_deaths`
        except ImportError:  # the package was replaced, or removed, while this process ran
            return b""
        return describe_life()

    # -- the overflow ------------------------------------------------------------------------------------------------

    def _queue_up(self, frames: list[bytes], level: int, *, begun: bool) -> bool:
        if not self.overflow.append(frames, level, begun=begun):
            return False
        self._start_draining()
        return True

    def _start_draining(self) -> None:
        if self._draining:
            return
        self._draining = True
        try:
            start_thread(self._drain_in_thread, "shipper-overflow")
        except RuntimeError:  # no thread is left, or the interpreter ends: the next put, flush or exit drains it
            self._draining = False
            self._drain_once()

    def _drain_in_thread(self) -> None:
        while True:
            while not self._drain_once():
                if self.pid != os.getpid() or self._pipe.closed:
                    return
                self._pipe.wait_writable(POLL_MS)
            self._draining = False
            if not self.overflow.busy:  # checked after the flag is cleared, so that no append is left without a thread
                return
            self._draining = True

    def _drain_once(self) -> bool:
        try:
            return self.overflow.drain(self.write)
        except OSError:  # no descriptor is free to open its file again
            unpatched.original("time", "sleep")(POLL_MS / 1000)
            return False

    def drain(self, deadline: float) -> bool:
        """Empty the overflow into the pipe until `deadline` (time.monotonic()); True when nothing waits any more."""
        while self.overflow.busy and not self._drain_once():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._pipe.wait_cooperatively(milliseconds(left))
        return True

    def wait_until_drained(self, timeout: float | None) -> None:
        """Wait up to `timeout` seconds (None: for ever) until nothing waits in the overflow."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.overflow.busy and not self._pipe.closed:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._pipe.wait_cooperatively(milliseconds(left))
            self._drain_once()

    def maintain(self) -> None:
        """Touch the files, so that no cleaner removes them, and offer again what is left in a removed FIFO."""
        self._offer_again(self._pipe.take_earlier())
        self.overflow.touch()
        if self.overflow.busy:
            self._start_draining()
        if self._mirror is not None and not self._mirror.touch():
            removed, self._mirror, self.note = self._mirror, None, self._begin_mirror
            removed.close(is_needed=True)

    def _offer_again(self, left: bytes) -> None:
        """Offer again the events, of any process, that were in a removed FIFO."""
        events: dict[tuple[bytes, int, int], list[frame.FrameView]] = {}
        for view in frame.scan(left, complete=True).frames:
            events.setdefault((view.token, view.flags, view.seq), []).append(view)
        for (token, _, seq), views in events.items():
            pieces = {view.part: left[view.start : view.end] for view in views}
            if 0 in pieces and len(pieces) < views[0].parts:
                # Its rest is in the next FIFO, where readers ignore it without this beginning: send the mirror's copy.
                pieces = {**frames_of_event(self._mirror_folder, token, seq), **pieces}
            frames = [pieces[part] for part in sorted(pieces)]
            if not self.offer(frames, frame.MAX_LEVEL):  # it was accepted before: the limit does not apply
                self._queue_up(frames, frame.MAX_LEVEL, begun=True)

    # -- the end -----------------------------------------------------------------------------------------------------

    def note_clean_end(self) -> None:
        """Note that this process ends normally. It may still write afterwards."""
        if self._mirror is not None:
            self._mirror.note_clean_end()

    def forget(self) -> None:
        """In a forked child: close the parent's files without removing them."""
        self.overflow.forget()
        if self._mirror is not None:
            self._mirror.forget()

    def close(self) -> None:
        """Close overflow and mirror, before the pipe: the mirror asks how many bytes wait there."""
        self.overflow.close()
        if self._mirror is not None:
            self._mirror.close(is_needed=self._pipe.was_closed)


def _ignore(piece: bytes) -> None:
    """The `note` of a process without a mirror."""
