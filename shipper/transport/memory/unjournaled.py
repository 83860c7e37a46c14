"""Counts events that are accepted and not in the journal yet; any process of the user can do so.

They are in the pipe, in overflows or in pipe mirrors. Reading a pipe would empty it, but what is in it is in the
mirrors of its writers too, with events that are journaled already. The frames of a process get into the journal in the
order of their numbers, so those after the last one in the status file are in memory only.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

from ...spool.files import open_file
from .. import frame
from . import overflow_file, pipe_mirror
from .shared_file import HEAD, HEAD_BYTES, list_files

_NEVER = 1 << 64  # no sequence number is that large


def count_in_memory(folders: Iterable[str], reached: Mapping[str, int], *, is_complete: bool) -> int:
    """Return how many events are in memory only, according to the files in these folders.

    ``reached``: token of a process → the number after that of its last event in the journal. Processes that are not in
    it are left out, unless it ``is_complete``.
    """
    found: set[tuple[bytes, int]] = set()
    for folder in dict.fromkeys(folders):
        for path in list_files(folder):
            for view in frame.scan(_content(path), complete=True).frames:
                first = reached.get(view.token.hex(), 0 if is_complete else _NEVER)
                if not view.flags and not view.part and view.seq >= first:
                    found.add((view.token, view.seq))
    return len(found)


def last_accepted(folders: Iterable[str]) -> dict[str, int]:
    """Return, by token, the number after that of a process's last event in the memory files in these folders."""
    last: dict[str, int] = {}
    for folder in dict.fromkeys(folders):
        for path in list_files(folder):
            for view in frame.scan(_content(path), complete=True).frames:
                if not view.flags:
                    token = view.token.hex()
                    last[token] = max(last.get(token, 0), view.seq + 1)
    return last


def _content(path: str) -> bytes:
    """The frames in a file: those of an overflow that are not in the pipe yet, or all of a mirror."""
    with contextlib.suppress(OSError):
        fd = open_file(path, os.O_RDONLY)
        try:
            return _frames(fd)
        finally:
            os.close(fd)
    return b""


def _frames(fd: int) -> bytes:
    head = os.pread(fd, HEAD.size, 0)
    if len(head) < HEAD.size:
        return b""
    magic, _, _, number = HEAD.unpack(head)
    if magic == pipe_mirror.MAGIC:
        return os.pread(fd, pipe_mirror.MAX_BYTES, HEAD_BYTES)
    if magic == overflow_file.MAGIC:
        return os.pread(fd, max(0, os.fstat(fd).st_size - number), number)
    return b""
