"""The process's name in `ps` and `top`: its command line is replaced, as setproctitle does it, and its short name."""

from __future__ import annotations

import contextlib
import os

_ARG_START, _ARG_END = 45, 46  # fields of /proc/<pid>/stat behind the command's name (proc(5): 48 and 49)


def set_title(title: str) -> None:
    """Replace the command line, and the short name by its first two words, cut to 15 bytes. Errors are ignored.

    The new command line is written over the old one in memory: what does not fit is cut, what is left of the old one is
    filled with NUL bytes.
    """
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as comm:
        comm.write(os.fsencode(" ".join(title.split(" ")[:2])))
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        if 0 < start < end:
            with open("/proc/self/mem", "r+b", buffering=0) as memory:
                memory.seek(start)
                memory.write(os.fsencode(title)[: end - start - 1].ljust(end - start, b"\0"))
