"""The interface of a `multiprocessing.Queue` for the pipe that the application's processes write to.

Shipping itself uses a `Producer`, without importing multiprocessing. This class is for code that passes a queue to
another process, or reads one.
"""

from __future__ import annotations

import multiprocessing.queues
import os
import queue
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .._support import unpatched
from ..config.limits import OVERFLOW_SIZE
from . import frame
from .channel import milliseconds
from .producer import Producer

_READ_SIZE = 256 * 1024

if TYPE_CHECKING:
    _Base = multiprocessing.queues.Queue[bytes]
else:
    _Base = multiprocessing.queues.Queue


class RecordQueue(Producer, _Base):  # type: ignore[misc] # put_nowait returns the event's id
    """A queue of bytes from any number of writing processes to one reading process.

    Its parameters are those of `Producer` without ``is_watched``. `put` waits by default, `put_nowait` never. A pickle
    holds the paths and the limit.
    """

    def __init__(self, path: str, *, overflow: str, overflow_size: int = OVERFLOW_SIZE) -> None:
        self._reading = False  # whether this process is the one that reads
        self._clear_read()
        super().__init__(path, overflow=overflow, overflow_size=overflow_size)

    @classmethod
    def of(cls, producer: Producer) -> RecordQueue:
        """Return a queue that shares all state with a producer."""
        made = cls.__new__(cls)
        made.__dict__ = producer.__dict__
        if "_reading" not in made.__dict__:
            made._reading = False
            made._clear_read()
        return made

    def _clear_read(self) -> None:
        self._unread = b""
        self._parts: dict[tuple[bytes, int], list[bytes]] = {}
        self._events: deque[bytes] = deque()

    def _begin_in_child(self) -> None:
        self._clear_read()  # what the parent has read is the parent's
        super()._begin_in_child()

    def __getstate__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"path": self.path, "overflow": self._folder, "overflow_size": self._overflow_size}

    def __setstate__(self, state: dict[str, Any]) -> None:  # type: ignore[override]
        self.__init__(state["path"], overflow=state["overflow"], overflow_size=state["overflow_size"])  # type: ignore[misc]

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, obj: bytes, block: bool = True, timeout: float | None = None, *, level: int = 0) -> None:
        """Like `put_nowait`; with ``block``, first wait ``timeout`` seconds (None: for ever) for an empty overflow."""
        if block:
            self._current().wait_until_drained(timeout)
        self.put_nowait(obj, level=level)

    def full(self) -> bool:
        """Whether a put below WARNING would be dropped now."""
        return self._channel.overflow.waiting >= self._overflow_size * 3 // 4

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> bytes:
        """Return the next whole event. Raises `queue.Empty` after ``timeout`` seconds, ValueError once closed.
        Damaged bytes are skipped. Only one process may read, and none while a shipper process runs.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._reading = True
        while not self._events:
            if self._fill():
                continue
            if not block or (deadline is not None and time.monotonic() >= deadline):
                raise queue.Empty
            self._wait_readable(milliseconds(None if deadline is None else deadline - time.monotonic()))
        return self._events.popleft()

    def get_nowait(self) -> bytes:
        return self.get(block=False)

    def _fill(self) -> bool:
        if self.closed:
            raise ValueError("the queue is closed")
        try:
            data = os.read(self._pipe.open(), _READ_SIZE)
        except BlockingIOError:
            data = b""
        self._unread += data
        # Frames are written whole: when the pipe is empty, the rest of an incomplete one will not come.
        found = frame.scan(self._unread, growing=bool(data))
        for view in found.frames:
            self._take(view, self._unread[view.payload_start : view.end])
        self._unread = self._unread[found.consumed :]
        return bool(data) or found.consumed > 0

    def _take(self, view: frame.FrameView, payload: bytes) -> None:
        if view.flags:
            return
        parts = self._parts.setdefault((view.token, view.seq), [])
        parts.append(payload)
        if len(parts) == view.parts:
            self._events.append(b"".join(self._parts.pop((view.token, view.seq))))

    def qsize(self) -> int:
        """Return how many events can be read; 0 in a process that has never called `get`: it must not read."""
        while self._reading and not self.closed and self._fill():
            pass
        return len(self._events)

    def empty(self) -> bool:
        """Whether nothing waits to be read."""
        if self.qsize():
            return False
        return self._reading or self.closed or not self._wait_readable(0)

    def _wait_readable(self, milliseconds: int) -> bool:
        poller = unpatched.original("select", "poll")()
        poller.register(self._pipe.open(), select.POLLIN)
        return bool(poller.poll(milliseconds))

    # -- the end -----------------------------------------------------------------------------------------------------

    def join_thread(self) -> None:
        """Do nothing: there is no feeder thread."""

    def cancel_join_thread(self) -> None:
        """Do nothing: there is no feeder thread."""
