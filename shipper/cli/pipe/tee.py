"""`shipper pipe --tee`: writes what was taken in to stdout as well, unchanged."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

PIECE = 4096  # bytes (PIPE_BUF): a pipe that is ready takes so many at once
LAST_SECONDS = 1.0  # that the reader of stdout has for each piece once a signal has come


class Tee:
    """Writes to stdout, as slowly as its reader reads; shipping goes on when the reader goes away.

    ``is_ending``: whether a signal has come; then a reader that takes nothing for `LAST_SECONDS` is given up. ``woken``
    is a descriptor that a signal makes readable.
    """

    def __init__(self, is_ending: Callable[[], bool]) -> None:
        self._is_ending = is_ending
        self._is_open = True

    def write(self, data: bytes, woken: int) -> None:
        view = memoryview(data)
        try:
            while self._is_open and view:
                if self._is_ready(woken):
                    view = view[os.write(1, view[:PIECE]) :]
        except OSError:  # its reader is gone
            self.close()

    def _is_ready(self, woken: int) -> bool:
        poller = select.poll()
        poller.register(1, select.POLLOUT)
        is_ending = self._is_ending()
        if not is_ending:
            poller.register(woken, select.POLLIN)
        found = dict(poller.poll(LAST_SECONDS * 1000 if is_ending else None))
        if not found:
            self.close()
        if woken in found and 1 not in found:
            os.read(woken, 512)  # a signal, or a child that ended: handled after this piece
        return 1 in found

    def close(self) -> None:
        """Close stdout, so that its reader sees the end."""
        if self._is_open:
            self._is_open = False
            close_stdout()


def close_stdout() -> None:
    """Replace stdout by /dev/null, so that no other file gets its number."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
