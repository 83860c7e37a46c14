"""Files in memory that outlive their process: overflows and pipe mirrors.

Invariants
* The owner holds an exclusive flock on its file until it ends. A process that gets the lock is the new owner. Only a
  forked child that has inherited the lock may hold it for longer: then the owner's pid shows whether the owner is gone.
* A file is whole at every moment: a kill between two system calls leaves what was accepted.
* Files are in a folder that only this user can enter (mode 0700), and are not opened through links.

Layout, little-endian

    0    magic 8 · pid 8 · token 8 · number 8 (of each kind's own use) · PID namespace 8 (0: not known)
    64   used by overflows and by mirrors, each in its own way
    1024 its `Origin`: a JSON object, ended by a zero byte (missing: an earlier version)
    4096 content

The process named in the head writes the file; the shipper process reads and removes it when that process is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import mmap
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ...spool import kernel
from ...spool.files import get_int, get_str, open_file
from ...spool.kernel import namespace
from ...spool.numbers import close_high, open_high
from ...spool.owner import give, make_folder, owner_uid
from ..descriptors import OwnDescriptor

HEAD_BYTES = 4096
HEAD = struct.Struct("<8sQ8sQ")
NUMBER_AT = 24
PIDS = struct.Struct("<Q")
PIDS_AT = 32
ORIGIN_AT = 1024
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
"""Errors that mean only that a file can't be opened now, not that there is anything wrong with it."""


class Owner(NamedTuple):
    """The process in the head of a file, and the number in the head."""

    pid: int
    token: bytes
    number: int


class Origin(NamedTuple):
    """The spool that a file belongs to: other apps remove files that will never be adopted there."""

    spool: str
    """The path of the spool, as its process sees it."""
    mounts: int
    """The mount namespace of that process, 0: not known."""


def prepare_folder(folder: str) -> None:
    """Make ``folder`` and its parent. PermissionError unless ``folder`` is this user's alone, with mode 0700."""
    for each in (os.path.dirname(folder), folder):
        with contextlib.suppress(FileExistsError):
            make_folder(each)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner_uid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user with mode 0700")


def create(
    folder: str, names: Iterable[str], magic: bytes, owner: Owner, *, spool: str = ""
) -> tuple[OwnDescriptor, str]:
    """Make and lock a file under the first free name; return its descriptor and path. The folder is made if missing.

    ``spool`` is the path of the spool that the file belongs to.

    OSError when there is no space for its head: then no file is left behind.
    """
    try:
        prepare_folder(folder)
        fd, path = _new_file(folder, names)
    except FileNotFoundError:  # a shipper process that ended has just removed the empty folder
        prepare_folder(folder)
        fd, path = _new_file(folder, names)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.posix_fallocate(fd, 0, HEAD_BYTES)
        os.pwrite(fd, PIDS.pack(namespace("pid")), PIDS_AT)
        os.pwrite(fd, json.dumps(Origin(spool, namespace("mnt"))._asdict()).encode() + b"\0", ORIGIN_AT)
        os.pwrite(fd, HEAD.pack(magic, *owner), 0)
    except OSError:
        close_high(fd)
        os.unlink(path)
        raise
    return OwnDescriptor(fd), path


def _new_file(folder: str, names: Iterable[str]) -> tuple[int, str]:
    for name in names:
        path = os.path.join(folder, name)
        try:
            fd = open_high(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
            give(fd)
        except FileExistsError:
            continue
        except OSError:
            with contextlib.suppress(OSError):  # it may have been made, and its descriptor closed by other code
                os.unlink(path)
            raise
        return fd, path
    raise FileExistsError(folder)


def reopen(path: str, identity: tuple[int, int]) -> OwnDescriptor | None:
    """Open and lock a file that this process made; None when another process has taken it over, or removed it.

    OSError when it can't be opened now.
    """
    try:
        fd = open_file(path, os.O_RDWR)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) == identity:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process that had the lock meanwhile may have removed the name.
            if os.fstat(fd).st_nlink:
                own, fd = OwnDescriptor(fd), -1
                return own
    except BlockingIOError:
        return None
    finally:
        if fd >= 0:
            close_high(fd)
    return None


def take_over(path: str, magic: bytes) -> tuple[int, Owner] | None:
    """Lock the file of a process that is gone; return its descriptor, whose closing unlocks it, and its former owner.

    None while the owner lives, and for a file of another kind. OSError when it can't be opened or is not this user's.
    """
    fd = open_file(path, os.O_RDWR)
    owner = None
    try:
        owner = _locked(fd, magic)
    finally:
        if owner is None:
            close_high(fd)
    return None if owner is None else (fd, owner)


def _locked(fd: int, magic: bytes) -> Owner | None:
    head = os.pread(fd, HEAD.size, 0)
    if len(head) < HEAD.size or not head.startswith(magic):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # A forked child that never logged may still hold its dead parent's lock.
        if not kernel.process_is_gone(HEAD.unpack(head)[1], _read_pids(fd)):
            return None
    # Read again: what the owner wrote before it ended is final only now.
    head = os.pread(fd, HEAD.size, 0)
    if len(head) < HEAD.size:  # truncated: its owner has given it up
        return None
    _, pid, token, number = HEAD.unpack(head)
    return Owner(pid, token, number)


def _read_pids(fd: int) -> int:
    found = os.pread(fd, PIDS.size, PIDS_AT)
    return int(PIDS.unpack(found)[0]) if len(found) == PIDS.size else 0


def read_origin(fd: int) -> Origin | None:
    """Return the `Origin` of an open file; None for a file of an earlier version."""
    text = os.pread(fd, HEAD_BYTES - ORIGIN_AT, ORIGIN_AT).partition(b"\0")[0]
    with contextlib.suppress(ValueError):
        data = json.loads(text)
        if isinstance(data, dict) and get_str(data, "spool"):
            return Origin(get_str(data, "spool"), get_int(data, "mounts"))
    return None


def living_pids(folder: str) -> Iterator[int]:
    """Yield the pids of processes that have locked a file in the folder, each in its own PID namespace."""
    for path in list_files(folder):
        with contextlib.suppress(OSError, struct.error):
            fd = open_file(path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield HEAD.unpack(os.pread(fd, HEAD.size, 0))[1]
            finally:
                close_high(fd)


CLOSED_MEMORY = mmap.mmap(-1, 1)
CLOSED_MEMORY.close()

_never_unmapped: list[mmap.mmap] = []


class Mapping:
    """A mapped file. The mapping keeps the file's lock, also when other code closes the descriptors."""

    memory = CLOSED_MEMORY

    def __init__(self, own: OwnDescriptor, size: int, *, offset: int = 0) -> None:
        """Map ``size`` bytes from ``offset``; ``own`` may be closed then. OSError or ValueError when that fails."""
        self._duplicate: OwnDescriptor | None = None
        if sys.version_info >= (3, 13):
            self.memory = mmap.mmap(own.number, size, offset=offset, trackfd=False)
            return
        # mmap makes a duplicate, and closes its number in the end, whatever file has that number by then.
        lowest = os.dup(own.number)
        close_high(lowest)
        self.memory = mmap.mmap(own.number, size, offset=offset)
        self._duplicate = own.duplicate(lowest)

    def close(self) -> None:
        """Unmap the file. Idempotent. Where other code has closed mmap's duplicate, whose number may belong to another
        file, the mapping stays until the process ends."""
        if self.memory.closed:
            return
        if self._duplicate is None or self._duplicate.is_own():
            self.memory.close()
            return
        _never_unmapped.append(self.memory)
        with contextlib.suppress(ImportError):  # after a chroot the library may not be found
            import ctypes  # seldom needed

            # So its destructor does not close the number when the interpreter ends either.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.memory))

    __del__ = close


def process_is_gone(pid: int) -> bool:
    """Whether no process has this pid; False where that can't be seen."""
    return not os.path.exists(f"/proc/{pid}") if os.path.isdir("/proc/self") else False


def list_files(folder: str) -> list[str]:
    """Paths in a folder, sorted; [] when there is no such folder."""
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except OSError:
        return []
