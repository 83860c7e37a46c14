"""What the handlers of this process ship, without a shipper process."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from types import TracebackType

from shipper.application.capture.handler import QueueHandler
from shipper.application.capture.pipeline import Pipeline, active, set_pipeline
from shipper.event.codec import unpack
from shipper.event.model import Event
from shipper.transport import frame
from shipper.transport.producer import Producer


class Shipped:
    """Inside ``with`` the root logger ships everything into a pipe that only this object reads."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="q-")
        path = os.path.join(self._folder, "queue")
        os.mkfifo(path, 0o600)
        self._reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._queue = Producer(path, overflow=os.path.join(self._folder, "overflow"))
        self._handler = QueueHandler()
        self._buffer = b""

    def __enter__(self) -> Shipped:
        self._queue.open()
        self._before = active.pipeline
        set_pipeline(Pipeline(self._queue, ("memory",)))
        self._root = logging.getLogger()
        self._level = self._root.level
        self._root.setLevel(logging.INFO)
        self._root.addHandler(self._handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._root.removeHandler(self._handler)
        self._root.setLevel(self._level)
        set_pipeline(self._before)
        self._queue.close()
        os.close(self._reading)
        shutil.rmtree(self._folder)

    def all(self) -> list[Event]:
        """Return all events shipped so far; each has to fit one frame."""
        try:
            while data := os.read(self._reading, 1 << 20):
                self._buffer += data
        except BlockingIOError:
            pass
        views = frame.scan(self._buffer).frames
        return [unpack(self._buffer[view.payload_start : view.end]) for view in views if view.flags == frame.EVENT]
