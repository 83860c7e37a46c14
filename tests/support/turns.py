"""Turns on the machine: most tests share it, a few need it for themselves."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A reader-writer lock, by `flock`, between all test processes of this user on this machine.

    A process that waits for a turn alone holds the gate, so that no new shared turn begins in the meantime.
    """

    def __init__(self) -> None:
        path = os.path.join(tempfile.gettempdir(), f"tests-of-shipper-{os.getuid()}")
        self._gate = _open(f"{path}.gate")
        self._turn = _open(f"{path}.turn")

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Run the block while other tests may run too; with ``alone``, while no other test runs."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            # Explicitly: a child that was forked in the meantime holds the same lock.
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._gate)
        os.close(self._turn)


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
