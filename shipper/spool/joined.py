"""What clients have joined, from process to process: asked of the one that runs, and told to whoever replaces it.

Keys and tokens are on no disk: they are asked through a FIFO, whose content is in the kernel's memory, and told by a
file without a name. The shipper process holds both open.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..config.settings import Settings
from .lock import number

_SIZE = struct.Struct("<I")
_CHUNK = 65536


def open_joins(path: str) -> int:
    """The FIFO to ask through, open for both ends: what is in it survives whoever asked. -1 when it can't be opened."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def ask(path: str, backends: Iterable[Any]) -> None:
    """Ask the process that runs, or is about to, to deliver to these too. What finds no room, or nobody, is left out:
    whoever watches over the process asks again."""
    joins = open_joins(path)
    for payload in map(pickle.dumps, backends):
        frame = _SIZE.pack(len(payload)) + payload
        if len(frame) <= select.PIPE_BUF:  # all or nothing, whoever else asks
            with contextlib.suppress(OSError):
                os.write(joins, frame)
    close(joins)


def close(joins: int) -> None:
    if joins >= 0:
        os.close(joins)


def asked(joins: int) -> Iterator[Any]:
    """The backends that were asked for since the last time."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(joins, _CHUNK):
            data += chunk
    while len(data) >= _SIZE.size:
        end = _SIZE.size + _SIZE.unpack_from(data)[0]
        with contextlib.suppress(Exception):  # a class that can't be imported here
            yield pickle.loads(data[_SIZE.size : end])
        data = data[end:]


def tell(settings: Settings) -> int:
    """Keep the settings for those who ask; the descriptor to look at, 0 where there are no files without a name."""
    if not hasattr(os, "memfd_create"):
        return 0
    file = os.memfd_create("settings")
    os.write(file, settings.for_process())
    return file


def told(holder: Mapping[str, Any]) -> Settings | None:
    """The settings of the process that holds the lock; None when it has not told them yet, or not us."""
    pid, file = int(number(holder, "pid")), int(number(holder, "settings"))
    if pid <= 0 or file <= 0:
        return None
    with contextlib.suppress(Exception):  # it ends; or a backend's module can't be imported here
        # Neither waits when the process is gone and its number is somebody else's.
        with open(os.open(f"/proc/{pid}/fd/{file}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            found = pickle.load(opened) if stat.S_ISREG(os.fstat(opened.fileno()).st_mode) else None
        return found if isinstance(found, Settings) else None
    return None
