"""RecordQueue - the verbs of a `multiprocessing.Queue` over the pipe that the application's processes write to.

An application ships through a `Producer` alone, and imports no multiprocessing for it; this is for whoever hands a
queue to another process, or reads one.
"""

from __future__ import annotations

import contextlib
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
from .producer import Producer, milliseconds

_READ_SIZE = 256 * 1024

if TYPE_CHECKING:
    _Base = multiprocessing.queues.Queue[bytes]
else:
    _Base = multiprocessing.queues.Queue


class RecordQueue(Producer, _Base):  # type: ignore[misc] # put_nowait tells the event's id
    """A queue of bytes from any number of writing processes to one reading process.

    Made as a `Producer` is. A put never waits unless it is told to block. Pickles as its paths.
    """

    def __init__(self, path: str, *, overflow: str, overflow_size: int = OVERFLOW_SIZE) -> None:
        self._reading = False  # whether this process is the one that reads
        self._forget_what_was_read()
        super().__init__(path, overflow=overflow, overflow_size=overflow_size)

    @classmethod
    def of(cls, producer: Producer) -> RecordQueue:
        """The same queue, as its producer's process sees it: one state, two faces."""
        with contextlib.suppress(OSError):
            producer.open()  # by itself: what a face of it has opened would be closed with that face
        made = cls.__new__(cls)
        made.__dict__ = producer.__dict__
        if "_reading" not in made.__dict__:
            made._reading = False
            made._forget_what_was_read()
        return made

    def _forget_what_was_read(self) -> None:
        self._unread = b""
        self._parts: dict[tuple[bytes, int], list[bytes]] = {}
        self._whole: deque[bytes] = deque()

    def _begin_in_child(self) -> None:
        self._forget_what_was_read()  # what the parent has read is the parent's
        super()._begin_in_child()

    def __getstate__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"path": self._path, "overflow": self._folder, "overflow_size": self._overflow_size}

    def __setstate__(self, state: dict[str, Any]) -> None:  # type: ignore[override]
        self.__init__(state["path"], overflow=state["overflow"], overflow_size=state["overflow_size"])  # type: ignore[misc]

    # -- writing -----------------------------------------------------------------------------------------------------

    def put(self, obj: bytes, block: bool = True, timeout: float | None = None, *, level: int = 0) -> None:
        """Like `put_nowait`; with `block`, first wait up to `timeout` seconds (None: for ever) for the overflow."""
        if block:
            self.be_this_process()
            self._wait_for_room(timeout)
        self.put_nowait(obj, level=level)

    def _wait_for_room(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._overflow.busy and not self.closed:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._wait_politely(milliseconds(left))
            self._overflow.drain(self._write)

    def full(self) -> bool:
        """Whether a put below WARNING would be dropped now."""
        return self._overflow.waiting >= self._overflow_size * 3 // 4

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, block: bool = True, timeout: float | None = None) -> bytes:
        """The next whole event. Raises `queue.Empty`, or ValueError once closed.

        Damaged bytes are skipped. Only one process may read, and none while a shipper process runs.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._reading = True
        while not self._whole:
            if self._fill():
                continue
            if not block or (deadline is not None and time.monotonic() >= deadline):
                raise queue.Empty
            poller = unpatched.original("select", "poll")()
            poller.register(self._writing(), select.POLLIN)
            poller.poll(milliseconds(None if deadline is None else deadline - time.monotonic()))
        return self._whole.popleft()

    def get_nowait(self) -> bytes:
        return self.get(block=False)

    def _fill(self) -> bool:
        if self.closed:
            raise ValueError("the queue is closed")
        try:
            data = os.read(self._writing(), _READ_SIZE)
        except BlockingIOError:
            data = b""
        self._unread += data
        # Frames come whole: once the pipe is empty, half of one will stay a half.
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
            self._whole.append(b"".join(self._parts.pop((view.token, view.seq))))

    def qsize(self) -> int:
        """How many whole events wait to be read here; 0 in a process that never reads, for it must not take any."""
        while self._reading and not self.closed and self._fill():
            pass
        return len(self._whole)

    def empty(self) -> bool:
        """Whether nothing waits to be read."""
        if self.qsize():
            return False
        return self._reading or self.closed or not self._holds_something()

    def _holds_something(self) -> bool:
        poller = unpatched.original("select", "poll")()
        poller.register(self._writing(), select.POLLIN)
        return bool(poller.poll(0))

    # -- the end -----------------------------------------------------------------------------------------------------

    def join_thread(self) -> None:
        """There is no feeder thread; what was put is in the pipe or in the overflow."""

    def cancel_join_thread(self) -> None:
        """Nothing to cancel."""
