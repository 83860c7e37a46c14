"""Changes a file and hands over events to the shipper process: both happen or neither does, also after a kill.

Invariants: after a kill of a command, the next one completes a change that was committed, and removes one that was not.
The shipper process never waits for a command.

Beside ``<base>``
    <base>.lock         locked (flock) by the command that is at work
    <base>.staged/      a change in preparation: the new file as `kept`, and overflows with the events
    <base>.committed/   `<base>.staged/` after it is renamed, which commits the change

The overflows are moved to the spool's folder of overflows on disk. The shipper process, or the next one, takes them
over there, like those of dead processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator

from ..spool.files import open_file, sync
from ..transport.channel import new_token
from ..transport.memory.overflow import write_orphan

OVERFLOW_BYTES = 4 * 1024 * 1024  # about how much one overflow holds

KEPT = "kept"


class Handover:
    """Changes the file ``kept``, and hands over frames in the folder ``overflows`` of a spool; ``base`` as above."""

    def __init__(self, base: str, kept: str, overflows: str) -> None:
        self._lock = f"{base}.lock"
        self._staged = f"{base}.staged"
        self._committed = f"{base}.committed"
        self._kept = kept
        self._overflows = overflows

    @property
    def current(self) -> str:
        """The path of what was committed last: under ``<base>.committed`` until it has been moved into place."""
        path = os.path.join(self._committed, KEPT)
        return path if os.path.exists(path) else self._kept

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out other commands, and complete or remove what a killed one left. BlockingIOError while one works."""
        lock = open_file(self._lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._staged, ignore_errors=True)
            self._finish()
            yield
        finally:
            os.close(lock)

    def commit(self, content: Iterable[bytes], overflows: Iterable[bytes]) -> None:
        """Replace the file's ``content``, and hand over the frames.

        OSError when the disk does not take it: nothing is changed, or the next command completes the change.
        """
        try:
            os.mkdir(self._staged, 0o700)
            for frames in overflows:
                _sync(os.path.join(self._staged, write_orphan(self._staged, frames)))
            fd = open_file(os.path.join(self._staged, KEPT), os.O_WRONLY | os.O_CREAT)
            with open(fd, "wb") as file:
                file.writelines(content)
                file.flush()
                sync(fd)
            _sync(self._staged)
            os.rename(self._staged, self._committed)
        except OSError:
            shutil.rmtree(self._staged, ignore_errors=True)
            raise
        self._finish()

    def _finish(self) -> None:
        """Put a committed change in place. Can be interrupted, and done again, at every step."""
        if not os.path.isdir(self._committed):
            return
        # The file last: until it is moved, `current` is its new content.
        for name in sorted(os.listdir(self._committed), key=lambda name: (name == KEPT, name)):
            path = os.path.join(self._committed, name)
            if name == KEPT:
                os.replace(path, self._kept)
            else:
                self._hand_over(path)
        os.rmdir(self._committed)

    def _hand_over(self, path: str) -> None:
        while True:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._overflows, 0o700)
            try:
                os.rename(path, os.path.join(self._overflows, f"{os.path.basename(path)}-{new_token().hex()}"))
                return
            except FileNotFoundError:  # a shipper process that ended has just removed the empty folder
                if not os.path.exists(path):
                    raise


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)
