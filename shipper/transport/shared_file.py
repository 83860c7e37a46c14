"""Files in memory that outlive their process: it owns one while it lives, and whoever comes after takes it over.

The owner holds an exclusive `flock` on its file, which nothing but its end takes away. Each begins with a head:

    4096 bytes: magic 8 · pid 8 · token 8 · a number 8 · what the kind of file wants
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterable
from typing import NamedTuple

from ..spool.files import open_file

HEAD = 4096
WHO = struct.Struct("<8sQ8sQ")
NUMBER_AT = 24
WANTING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)  # a file may be there, we can't open it now


class Owner(NamedTuple):
    """Whose file it is, and the number in its head."""

    pid: int
    token: bytes
    number: int


def prepare_folder(folder: str) -> None:
    """Make it, mode 0700 and ours; OSError when that is not so."""
    for each in (os.path.dirname(folder), folder):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of ours with mode 0700")


def create(folder: str, names: Iterable[str], magic: bytes, owner: Owner) -> tuple[int, str]:
    """A new file of ours in a folder that is made when it is missing, under the first name that is free; its descriptor
    and path. OSError when there is no room for its head: then neither is left behind."""
    try:
        prepare_folder(folder)
        fd, path = _new_file(folder, names)
    except FileNotFoundError:  # a shipper process that ended has just removed the empty folder
        prepare_folder(folder)
        fd, path = _new_file(folder, names)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(fd, 0, HEAD)
        os.pwrite(fd, WHO.pack(magic, *owner), 0)
    except OSError:
        os.close(fd)
        os.unlink(path)
        raise
    return fd, path


def _new_file(folder: str, names: Iterable[str]) -> tuple[int, str]:
    for name in names:
        path = os.path.join(folder, name)
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), path
    raise FileExistsError(folder)


def take(path: str, magic: bytes) -> tuple[int, Owner] | None:
    """The file, locked for us until its descriptor is closed, and whose it was; None while its owner lives, and for a
    file of another kind. OSError when it can't be opened, or is not ours alone."""
    fd = open_file(path, os.O_RDWR)
    owner = None
    try:
        owner = _taken(fd, magic)
    finally:
        if owner is None:  # OSError: no plain file
            os.close(fd)
    return None if owner is None else (fd, owner)


def _taken(fd: int, magic: bytes) -> Owner | None:
    head = os.pread(fd, WHO.size, 0)
    if len(head) < WHO.size or not head.startswith(magic):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # A forked child that never logged may still hold its dead parent's lock.
        if not process_is_gone(WHO.unpack(head)[1]):
            return None
    # What the owner wrote before it let go is only certain now.
    _, pid, token, number = WHO.unpack(os.pread(fd, WHO.size, 0))
    return Owner(pid, token, number)


def process_is_gone(pid: int) -> bool:
    """False as well where that can't be seen."""
    return not os.path.exists(f"/proc/{pid}") if os.path.isdir("/proc/self") else False


def files(folder: str) -> list[str]:
    """Paths in a folder, [] when there is none."""
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except OSError:
        return []
