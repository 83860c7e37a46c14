"""The child of `shipper pipe`: ships the lines in its spill, and those in the spills of commands that were killed.

It holds back while a lot comes in: the program that writes needs the processors then.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from typing import TYPE_CHECKING

from ...application.api import stop
from ...event.model import Event
from .. import BAD_NEWS, OK, complain
from ..starting import begin
from .lines import Lines, Reading
from .spill import LIMIT, Spill, abandoned

if TYPE_CHECKING:
    from ...application.runtime import App
    from ...config.settings import Settings

HEAVY_BYTES_PER_SECOND = 512 * 1024
HOLD = 60.0  # seconds at most that shipping is held back in one go
LOOK = 0.05  # seconds between two looks at how much comes in
NICE = 10
JOURNALING = 30.0  # seconds at most until the last line is in the journal


class Load:
    """Whether a lot comes in right now, measured by the bytes that a spill has taken."""

    def __init__(self, spill: Spill) -> None:
        self._spill = spill
        self._taken, self._looked = spill.taken, time.monotonic()
        self._heavy_since: float | None = self._looked  # a heavy load is assumed until the first look

    def is_heavy(self) -> bool:
        """Whether a lot comes in; False also after `HOLD` seconds of that, because shipping must go on."""
        now = time.monotonic()
        passed = now - self._looked
        if passed >= LOOK:
            taken = self._spill.taken
            if taken - self._taken < HEAVY_BYTES_PER_SECOND * passed:
                self._heavy_since = None
            elif self._heavy_since is None:
                self._heavy_since = now
            self._taken, self._looked = taken, now
        return self._heavy_since is not None and now - self._heavy_since < HOLD


class Shipping:
    """Ships until ``news``, a pipe's reading end, is closed by the parent and everything was shipped."""

    def __init__(self, settings: Settings, folder: str, spill: Spill, news: int) -> None:
        self._settings = settings
        self._folder = folder
        self._spill = spill
        self._news = news
        spill.rewind()
        self._load = Load(spill)
        self._ended = False
        self._app: App | None = None
        self._dropped = 0

    def run(self) -> int:
        """Ship everything; return the exit code."""
        self._hold_back()
        for left in abandoned(self._folder):
            self._ship(left, Reading(**left.reading), is_complete=True)
            left.remove()
        self._ship(self._spill, Reading(**self._spill.reading))
        return self._end()

    def _ship(self, spill: Spill, reading: Reading, *, is_complete: bool = False) -> None:
        lines = Lines(spill.shipped)
        while True:
            is_last = is_complete or self._ended  # read before the spill, so that an empty chunk is its end
            chunk = spill.next()
            if chunk:
                self._ship_lines(spill, reading, lines, chunk)
                self._hold_back()
            elif is_last:
                break
            else:
                self._wait(None)
        line = lines.last()
        if line is not None:
            self._put(reading.event(line, spill.arrival(line.end)))
            spill.settle(line.end)

    def _ship_lines(self, spill: Spill, reading: Reading, lines: Lines, chunk: bytes) -> None:
        for line in lines.feed(chunk):
            self._put(reading.event(line, spill.arrival(line.end)))
            spill.settle(line.end)

    def _put(self, event: Event | None) -> None:
        if event is None:
            return
        app = self._app or self._begin()
        app.queue.drain(math.inf)  # wait for room: nothing is dropped because the queue is full
        self._dropped += not app.pipeline.enqueue(event)

    def _begin(self) -> App:
        self._app = begin(self._settings)
        os.nice(NICE)  # this process alone: the shipper process may work for others too
        return self._app

    # -- taking turns with the program -------------------------------------------------------------------------------

    def _hold_back(self) -> None:
        """Return when less comes in, when the spill fills up, or when nothing more will come."""
        while not self._ended and self._load.is_heavy() and self._spill.waiting < LIMIT // 2:
            self._wait(LOOK)

    def _wait(self, timeout: float | None) -> None:
        """Wait until something has come in, or, with a ``timeout``, for so many seconds or the end of the input."""
        poller = select.poll()
        poller.register(self._news, select.POLLIN if timeout is None else 0)
        poller.poll(None if timeout is None else timeout * 1000)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._news, 65536):
                pass
            self._ended = True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> int:
        if self._app is None:
            return OK
        app = self._app
        app.queue.drain(math.inf)
        journaled = app.flush(time.monotonic() + JOURNALING, delivered=False) or app.supervisor.drain_pipe()
        stop(0.0)
        if not journaled:
            return complain("the last lines are not in the journal yet: is the disk full?", code=BAD_NEWS)
        if self._dropped:
            lines = "line was" if self._dropped == 1 else "lines were"
            return complain(f"{self._dropped} {lines} dropped; `shipper status` says why", code=BAD_NEWS)
        return OK
