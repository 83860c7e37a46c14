"""`shipper pipe --tee`: passes what was taken in on to stdout, unchanged."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

PIECE = 4096  # bytes (PIPE_BUF): a pipe that is ready takes so many at once
LAST_SECONDS = 1.0  # that the reader of stdout has for each piece once a signal has come


class Tee:
    """Writes to stdout, as slowly as its reader wants; a reader that goes away is no reason to stop shipping.

    ``is_ending``: whether a signal has come; then a reader that takes nothing is given up. ``woken`` is a descriptor
    that a signal makes readable.
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
            os.read(woken, 512)  # a signal, or a child that ended: looked at after this piece
        return 1 in found

    def close(self) -> None:
        """The reader of stdout sees its end."""
        if self._is_open:
            self._is_open = False
            close_stdout()


def close_stdout() -> None:
    """Put /dev/null in its place, so that nothing else gets its number."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
