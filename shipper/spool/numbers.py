"""Descriptors that are open for a short time, at high numbers, which the application's files do not get.

Code that daemonises a process closes all descriptors. If it does so while another thread uses a file of this package,
and then opens files, these get low numbers: the high number is closed, but is not another file. This package takes high
numbers in turn, so its own files do not get a number again soon either.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os

MAX_BASE = 768  # 768 to 1023 are used; higher numbers would make the kernel's table of descriptors larger
_COUNT = 256

_ATTEMPTS = 5
_turns = itertools.count()  # offsets from the base, modulo `_COUNT`


def move_up(fd: int) -> int:
    """Move a descriptor to a high number and close the low one; unchanged if it is high already, or none is free."""
    if fd >= _base():
        return fd
    moved = _duplicate(fd)
    if moved != fd:
        _close_twin(fd, moved)
    return moved


def open_high(path: str, flags: int, mode: int = 0o600) -> int:
    """`os.open`, at a high number, not inheritable. OSError, also while other code keeps closing descriptors."""
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
    # Not always the lowest: a thread about to write to a closed number must not reach a file opened there since.
    for lowest in (base + next(_turns) % max(1, min(_COUNT, limit - base)), base):
        with contextlib.suppress(OSError):
            moved: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
            for _ in range(lowest, moved):  # these are in use: the next turn is the number after `moved`
                next(_turns)
            return moved
    return fd


def _close_twin(fd: int, twin: int | str) -> None:
    with contextlib.suppress(OSError):
        if os.path.samestat(os.stat(twin), os.fstat(fd)):  # else the number is another file's by now
            os.close(fd)


def _compare(fd: int, path: str) -> tuple[bool, bool]:
    """Whether the descriptor still is the file that was opened, and whether no other one is at the path."""
    try:
        found = os.fstat(fd)
        is_current = os.path.samestat(found, os.stat(path))
    except FileNotFoundError:  # removed meanwhile
        return found.st_nlink == 0, found.st_nlink == 0
    except OSError:
        return False, False
    return is_current or found.st_nlink == 0, is_current  # no name left: another file was put at the path


def close_high(fd: int) -> None:
    """Close a descriptor, which other code may have closed already."""
    with contextlib.suppress(OSError):
        os.close(fd)
