"""Backends that clients add later: requested from the running shipper process, and passed on to its successor.

API keys and tokens are never on disk. A request travels through the FIFO `joins`, whose content is in the kernel's
memory; the settings of a shipper process are in a file without a name, which supervisors read through /proc.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import stat
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from ..config.settings import Settings
from .lock import LockInfo
from .numbers import close_high, open_high

_SIZE = struct.Struct("<I")
_READ_BYTES = 65536


def open_joins(path: str) -> int:
    """Open the FIFO for reading and writing, so that it keeps its content; the descriptor, -1 when that fails."""
    try:
        fd = open_high(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return -1
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    close_high(fd)
    return -1


def close_joins(joins: int) -> None:
    if joins >= 0:
        close_high(joins)


def request_join(path: str, backends: Iterable[Any]) -> None:
    """Ask the running or starting process to deliver to these backends too.

    A request is lost if the FIFO is full or no process keeps it open (the supervisor repeats it), or if it has more
    than `PIPE_BUF` bytes.
    """
    joins = open_joins(path)
    for payload in map(pickle.dumps, backends):
        request = _SIZE.pack(len(payload)) + payload
        if len(request) <= select.PIPE_BUF:  # atomic, however many processes write
            with contextlib.suppress(OSError):
                os.write(joins, request)
    close_joins(joins)


def announce_flush(path: str) -> None:
    """Wake the shipper process, if one runs: the queue has a mark that a flush waits for."""
    joins = open_joins(path)
    with contextlib.suppress(OSError):
        os.write(joins, _SIZE.pack(0))
    close_joins(joins)


def pending_joins(joins: int) -> Iterator[Any]:
    """The backends that were requested since the last call."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(joins, _READ_BYTES):
            data += chunk
    while len(data) >= _SIZE.size:
        end = _SIZE.size + _SIZE.unpack_from(data)[0]
        with contextlib.suppress(Exception):  # a flush was announced, or a class can't be imported here
            yield pickle.loads(data[_SIZE.size : end])
        data = data[end:]


def publish_settings(settings: Settings) -> int:
    """Write the settings to a file without a name, in memory; return its descriptor, 0 where that is not possible."""
    payload = settings.for_process()
    for make in (_memory_file, _unnamed_file):
        with contextlib.suppress(OSError, AttributeError):  # another system, or refused by a filter of system calls
            file = make()
            os.write(file, payload)
            return file
    return 0


def _memory_file() -> int:
    return os.memfd_create("settings")


def _unnamed_file() -> int:
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def read_settings(holder: LockInfo) -> Settings | None:
    """The settings that the holder of the lock published; None when there are none, or when they can't be read."""
    if holder.pid <= 0 or holder.settings <= 0 or not holder.is_visible():
        return None
    path = f"/proc/{holder.pid}/fd/{holder.settings}"
    with contextlib.suppress(Exception):  # the process has ended, or a backend's module can't be imported here
        # O_NONBLOCK: the pid may be another process's by now, and its descriptor of that number a FIFO.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            found = pickle.load(opened) if stat.S_ISREG(os.fstat(opened.fileno()).st_mode) else None
        return found if isinstance(found, Settings) else None
    return None
