"""Frames that reach the journal without passing through the pipe.

They are in overflows of processes that have ended, or the pipe lost them and a pipe mirror has them. They are appended
at the border of a frame. An overflow is passed on afterwards, to be accounted for and removed.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

from ...transport.memory.orphans import OrphanedOverflow, orphaned_overflows
from .appender import Appender


class Adoption:
    """Appends in intake's thread; any thread may call the methods that do not name this thread.

    ``overflows`` are the folders of overflows. ``wake`` wakes intake, ``on_append`` is called after each append.
    """

    def __init__(
        self, appender: Appender, overflows: Sequence[str], *, wake: Callable[[], None], on_append: Callable[[], None]
    ) -> None:
        self.allowed = threading.Event()
        """Set once the drops of an overflow can be accounted for, and what the pipe lost is in the journal."""
        self.adopted: queue.SimpleQueue[OrphanedOverflow] = queue.SimpleQueue()
        """Overflows that are in the journal and not accounted for."""
        self._appender = appender
        self._overflows = overflows
        self._wake = wake
        self._on_append = on_append
        self._late: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._known: set[str] = set()
        self._has_orphans = threading.Event()

    def look_for_orphans(self) -> None:
        """Have intake adopt the overflows of ended processes, if there are any. Called once a second."""
        for found in self._orphans():
            found.close()
            self._has_orphans.set()
            self._wake()
            return

    def put_back_later(self, frames: bytes, on_done: Callable[[], None]) -> None:
        """Append frames that the pipe lost once the journal takes them; intake's thread calls ``on_done`` then."""
        self._late.append((frames, on_done))
        self._wake()

    @property
    def late(self) -> int:
        """How many calls of `put_back_later` have frames that are not in the journal yet."""
        return len(self._late)

    def append_late(self) -> None:
        """In intake's thread: append what `put_back_later` was given. OSError when the journal does not take it now."""
        while self._late and self._appender.is_at_border():
            self._appender.append(self._late[0][0], self._skip_late)
            self._late.popleft()[1]()
            self._on_append()

    def _skip_late(self, taken: int) -> None:
        frames, on_done = self._late[0]
        self._late[0] = frames[taken:], on_done

    def adopt_found(self) -> None:
        """In intake's thread: adopt what `look_for_orphans` has found."""
        if self._has_orphans.is_set():
            self.adopt()

    def adopt(self) -> None:
        """In intake's thread: append overflows whose processes have ended. OSError when that can't be done now."""
        if not self.allowed.is_set() or not self._appender.is_at_border():  # a splice brings the frame's rest first
            return
        self._has_orphans.clear()
        for found in self._orphans():
            try:
                # The beginning of an event may be in the pipe, and has to come before its rest in the overflow.
                self._appender.drain_pipe()
                self._appender.append(found.frames, found.skip)
            except OSError:
                found.close()
                self._has_orphans.set()  # again, once the journal takes it
                raise
            self._known.add(found.path)
            self.adopted.put(found)
            self._on_append()

    def _orphans(self) -> itertools.chain[OrphanedOverflow]:
        return itertools.chain(*(orphaned_overflows(folder, self._known) for folder in self._overflows))
