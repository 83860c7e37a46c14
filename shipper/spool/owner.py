"""The user that spools belong to: this process's user, or the one that it is going to be (`owner=`).

A program that starts as root and changes its user later (gunicorn --user, setuid) calls `start()` as root. Then root
makes the files, and gives them to that user; the shipper process runs as that user.
"""

from __future__ import annotations

import os
import pwd
import stat

from ..errors import ConfigurationError

_future: tuple[int, int] | None = None  # uid and gid


def set_owner(name: str) -> None:
    """Set the owner: ``name`` is a user, or ``user:group``, by names or numbers; "" is this process's user.

    Raises ConfigurationError if it is unknown, or another user and this process is not root.
    """
    global _future
    user, _, group = name.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user) if user else None
        uid = entry.pw_uid if entry is not None else os.geteuid()
        gid = entry.pw_gid if entry is not None else os.getegid()
        if group:
            import grp  # few applications name one, and only start() does

            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigurationError("owner", name, "must be a user of this machine, or user:group") from None
    if uid != os.geteuid() and os.geteuid() != 0:
        raise ConfigurationError("owner", name, "must be this process's user: only root can give files to another one")
    _future = (uid, gid) if uid != os.geteuid() else None


def future_owner() -> tuple[int, int] | None:
    """The uid and gid of the owner, while this process is root and the owner is another user."""
    return _future if _future is not None and os.geteuid() == 0 else None


def owner_uid() -> int:
    """The uid that files of a spool have to have."""
    future = future_owner()
    return os.geteuid() if future is None else future[0]


def give(fd: int) -> None:
    """Give root's new file or folder to the owner; not a file with several names: it may be a link to a foreign one."""
    future = future_owner()
    if future is None:
        return
    found = os.fstat(fd)
    if found.st_uid == 0 and (stat.S_ISDIR(found.st_mode) or found.st_nlink == 1):
        os.fchown(fd, *future)


def make_folder(path: str) -> None:
    """`os.mkdir` with mode 0700, for the owner. Raises FileExistsError."""
    os.mkdir(path, 0o700)
    _give_path(path, os.O_RDONLY | os.O_DIRECTORY)


def make_folders(path: str) -> None:
    """`os.makedirs` with mode 0700, for the owner; what exists is left as it is."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above != path:
        make_folders(above)
    try:
        make_folder(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def make_fifo(path: str) -> None:
    """`os.mkfifo` with mode 0600, for the owner. Raises FileExistsError."""
    os.mkfifo(path, 0o600)
    _give_path(path, os.O_RDWR | os.O_NONBLOCK)


def _give_path(path: str, flags: int) -> None:
    if future_owner() is None:
        return
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give(fd)
    finally:
        os.close(fd)
