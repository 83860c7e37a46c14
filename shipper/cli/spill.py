"""What was read and is not shipped yet: in files without a name, so that reading waits for nobody."""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import os
import select
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

PIPE = 1024 * 1024
CHUNK = 1024 * 1024
SEGMENT = 16 * 1024 * 1024  # of a file, before the next one is begun: a file that is read takes no room any more
PARTING = 1.0  # seconds for the last words of a program that was asked to end together with us
PAUSE = 0.2  # seconds between two tries on a disk that is full
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class Chunk(NamedTuple):
    """Octets in a file, and when they came. ``is_last``: the file has no more of them."""

    fd: int
    start: int
    size: int
    when: float
    is_last: bool


class Spill:
    """Reads a descriptor in a thread of its own, as long as its ``with`` lasts; iterating gives (octets, time) in order.

    What waits lies in ``folder``, at most ``most`` bytes of it: then, and while the disk is full, reading waits. `end`
    ends the input after a moment for what is still being written; called again, at once. ``trouble`` says why input
    ended before its end, "" when it did not.
    """

    def __init__(self, source: int, folder: str, *, most: int) -> None:
        self.trouble = ""
        self._source = source
        self._folder = folder
        self._most = most
        self._chunks: collections.deque[Chunk] = collections.deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._finished = False
        self._ending: float | None = None
        self._bell = os.pipe()
        self._fd = -1
        self._size = 0
        self._held = b""  # read, and there was no room on disk for it
        self._splices = hasattr(os, "splice")
        self._thread = threading.Thread(target=self._run, name="shipper-pipe", daemon=True)

    def __enter__(self) -> Spill:
        with contextlib.suppress(OSError):  # not a pipe, or the user has had his share
            fcntl.fcntl(self._source, _F_SETPIPE_SZ, PIPE)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending = time.monotonic()
        self._ring()
        self._thread.join()
        for each in {*self._bell, *(chunk.fd for chunk in self._chunks), self._fd} - {-1}:
            os.close(each)

    def end(self) -> None:
        """From a signal handler, too."""
        now = time.monotonic()
        self._ending = now + PARTING if self._ending is None else now
        self._ring()

    def _ring(self) -> None:
        os.write(self._bell[1], b".")

    # -- reading -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self.trouble = str(error)
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _read(self) -> None:
        poller = select.poll()
        poller.register(self._source, select.POLLIN)
        poller.register(self._bell[0], select.POLLIN)
        while self._has_time():
            ready = dict(poller.poll(self._patience()))
            if self._bell[0] in ready:
                os.read(self._bell[0], 64)
            if self._source not in ready or not self._has_room():
                continue
            size = self._move()
            if size == 0:
                return
            if size > 0:
                self._add(size)

    def _has_time(self) -> bool:
        return self._ending is None or time.monotonic() < self._ending

    def _patience(self) -> int | None:
        return None if self._ending is None else max(1, int((self._ending - time.monotonic()) * 1000))

    def _has_room(self) -> bool:
        if self._waiting < self._most:
            return True
        with self._changed:
            self._changed.wait_for(lambda: self._waiting < self._most, PAUSE)
        return self._waiting < self._most

    def _move(self) -> int:
        """As many bytes as there are into the file; 0 at the end of input, -1 when it could not be done now."""
        try:
            return self._moved()
        except BlockingIOError:
            return -1
        except OSError as error:
            if error.errno not in _FULL:
                raise
            time.sleep(PAUSE)
            return -1

    def _moved(self) -> int:
        if self._fd < 0:
            file, path = tempfile.mkstemp(prefix="pipe-", dir=self._folder)
            os.unlink(path)
            self._fd, self._size = file, 0
        if self._splices:
            try:
                return os.splice(self._source, self._fd, CHUNK, offset_dst=self._size)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._splices = False  # not a pipe, or a file system that can't
        self._held = self._held or os.read(self._source, CHUNK)
        size = os.pwrite(self._fd, self._held, self._size) if self._held else 0
        self._held = self._held[size:]
        return size

    def _add(self, size: int) -> None:
        is_last = self._size + size >= SEGMENT
        chunk = Chunk(self._fd, self._size, size, time.time(), is_last)
        self._size += size
        if is_last:
            self._fd = -1
        with self._changed:
            self._waiting += size
            self._chunks.append(chunk)
            self._changed.notify()

    # -- what was read -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[tuple[bytes, float]]:
        while (chunk := self._next()) is not None:
            octets = os.pread(chunk.fd, chunk.size, chunk.start)
            if chunk.is_last:
                os.close(chunk.fd)
            with self._changed:
                self._waiting -= chunk.size
                self._changed.notify_all()
            yield octets, chunk.when

    def _next(self) -> Chunk | None:
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._finished)
            return self._chunks.popleft() if self._chunks else None
