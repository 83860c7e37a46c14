"""How processes of the application have ended, as far as the kernel tells a process that is not their parent.

The shipper process holds a descriptor (pidfd) of each living process. Since Linux 6.15, it yields the wait status when
the process is gone. Earlier kernels show the status only while the process is a zombie, until its parent has collected
it. Otherwise the status is unknown, and nothing is guessed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time
from dataclasses import dataclass

from ...spool.files import open_file
from ...spool.kernel import namespace
from ...transport.memory.life import Head, parse_head, read_stat
from ...transport.memory.pipe_mirror import SUFFIX
from ...transport.memory.shared_file import ORIGIN_AT, list_files

MAX_WATCHED = 1000  # processes whose descriptors are held
_GET_INFO = 0xC040FF0B  # PIDFD_GET_INFO, with a structure of 64 bytes
_SETTLED_NANOSECONDS = 2_000_000_000
_INFO_BYTES, _INFO_EXIT, _STATUS_AT = 64, 1 << 3, 60


@dataclass(frozen=True)
class Ending:
    """How a process has ended. ``status`` is its wait status, None when that is not known."""

    status: int | None = None
    is_ending: bool = False
    """The process is ending and not gone yet: look again later."""
    lives_on: bool = False
    """The process lives: it runs another program now (exec), or has lost its mirror."""

    @property
    def signal(self) -> int:
        """The signal that ended it, 0 when none did or that is not known."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else 0

    @property
    def exit_code(self) -> int | None:
        """What it passed to exit, None when it was ended by a signal or that is not known."""
        is_exit = self.status is not None and os.WIFEXITED(self.status)
        return os.WEXITSTATUS(self.status) if is_exit else None  # type: ignore[arg-type]


class Watch:
    """Watches the processes with a mirror in ``folder`` whose deaths are to be reported. Used by the main thread."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known: set[str] = set()
        self._pidfds: dict[str, int] = {}
        self._changed = -1  # the folder's modification time when it was last listed; -1: list it again

    def look(self) -> None:
        """Open a descriptor of each process that has started since the last call; close those of removed mirrors."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return
        if changed == self._changed:
            return
        # A file system's clock is coarse: two changes shortly after each other may have the same time.
        self._changed = changed if time.time_ns() - changed > _SETTLED_NANOSECONDS else -1
        there = {path for path in list_files(self._folder) if path.endswith(SUFFIX)}
        for path in there - self._known:
            with contextlib.suppress(OSError, ValueError):
                self._open(path, read_head(path))
        for path in self._known - there:
            self.forget(path)
        self._known = there

    def _open(self, path: str, head: Head) -> None:
        if head.life is None or not _is_seen(head) or len(self._pidfds) >= MAX_WATCHED:
            return
        stat = read_stat(head.pid)
        if stat is not None and stat.started == head.life.started:
            self._pidfds[path] = os.pidfd_open(head.pid)

    def ending(self, path: str, head: Head) -> Ending:
        """Return how the process of a mirror has ended. The process no longer holds the mirror's lock."""
        pidfd = self._pidfds.get(path, -1)
        if pidfd >= 0 and (status := _status(pidfd)) is not None:
            return Ending(status)
        stat = read_stat(head.pid) if head.life is not None and _is_seen(head) else None
        if stat is None or head.life is None or stat.started != head.life.started:
            return Ending()
        if stat.state in "ZX":
            return Ending(stat.status or None)  # 0 may also mean that the kernel does not show it
        return Ending(is_ending=True) if stat.is_ending else Ending(lives_on=True)

    def forget(self, path: str) -> None:
        """Close the descriptor of the process whose mirror was at this path."""
        pidfd = self._pidfds.pop(path, -1)
        if pidfd >= 0:
            os.close(pidfd)

    def close(self) -> None:
        for path in list(self._pidfds):
            self.forget(path)


def read_head(path: str) -> Head:
    """Read the head of a mirror. Raises OSError or ValueError when that is impossible."""
    fd = open_file(path, os.O_RDONLY)
    try:
        return parse_head(os.pread(fd, ORIGIN_AT, 0))
    finally:
        os.close(fd)


def _is_seen(head: Head) -> bool:
    """Whether the pid in the head belongs to the PID namespace of this process."""
    return head.pids != 0 and head.pids == namespace("pid")


def _status(pidfd: int) -> int | None:
    """The wait status of a process that is gone; None while it lives, or when the kernel does not tell."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if not poller.poll(0):
        return None
    info = bytearray(_INFO_BYTES)
    struct.pack_into("<Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, info)
    except OSError:  # an older kernel, or the process is a zombie
        return None
    (mask,) = struct.unpack_from("<Q", info)
    return int(struct.unpack_from("<i", info, _STATUS_AT)[0]) if mask & _INFO_EXIT else None
