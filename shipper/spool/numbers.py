"""Descriptors of short use, at numbers that the application's files do not get.

Another thread of the application may close all descriptors, as code does that daemonises a process, and open files of
its own while this one has a file open. A file with a high number can then be gone, but it is no other one: a number is
given again only after all the others were.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os

MAX_BASE = 768  # numbers from there to 1023; higher ones would make the kernel's table of descriptors larger
_COUNT = 256

_ATTEMPTS = 5
_turns = itertools.count()  # each number in turn, from the base on


def move_up(fd: int) -> int:
    """Move a descriptor to a high number and close the low one; unchanged if it has one, or if none is free."""
    if fd >= _base():
        return fd
    moved = _duplicate(fd)
    if moved != fd:
        _close_twin(fd, moved)
    return moved


def open_high(path: str, flags: int, mode: int = 0o600) -> int:
    """`os.open`, at a high number and without inheritance. OSError, also when other code closes numbers right now."""
    for _ in range(_ATTEMPTS):
        fd = os.open(path, flags | os.O_CLOEXEC, mode)
        moved = _duplicate(fd)
        is_ours, is_current = _compare(moved, path)
        if moved != fd:
            _close_twin(fd, moved if is_ours else path)
        if is_current:
            return moved
        if moved != fd or is_ours:
            close_high(moved)
        if flags & os.O_EXCL:
            break
    raise OSError(errno.EBADF, os.strerror(errno.EBADF), path)


def _base() -> int:
    return min(MAX_BASE, max(3, os.sysconf("SC_OPEN_MAX") * 3 // 4))


def _duplicate(fd: int) -> int:
    base, limit = _base(), os.sysconf("SC_OPEN_MAX")
    # Not always the lowest one: a thread that just writes to a number must not find what another one has opened since.
    for lowest in (base + next(_turns) % max(1, min(_COUNT, limit - base)), base):
        with contextlib.suppress(OSError):
            moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
            for _ in range(lowest, moved):  # those are in use; the turn is that of the number behind this one
                next(_turns)
            return moved
    return fd


def _close_twin(fd: int, twin: int | str) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(twin), os.fstat(fd)):  # else the number is another file's by now
            os.close(fd)


def _compare(fd: int, path: str) -> tuple[bool, bool]:
    """Whether this is the file that was opened, and not one that has got its number, and whether it is at the path."""
    try:
        found = os.fstat(fd)
        is_current = os.path.samestat(found, os.stat(path))
    except FileNotFoundError:  # removed meanwhile
        return found.st_nlink == 0, found.st_nlink == 0
    except OSError:
        return False, False
    return is_current or found.st_nlink == 0, is_current  # without a name: another was put at the path


def close_high(fd: int) -> None:
    """Close a descriptor, which other code may have closed already."""
    with contextlib.suppress(OSError):
        os.close(fd)
