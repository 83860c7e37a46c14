"""Which host uses a spool: folders may be shared by several, but a FIFO's content is in the kernel of one.

The file `host` in the spool names the kernel that uses it, by its boot id, and the FIFO that this kernel sees.
Processes that see another FIFO, on another host or in a container with a mount of its own, would write into a pipe that
the running shipper process never reads; where locks are local to each host, they would also start a second shipper
process on the same journal. They get a lane: a complete spool in the folder `hosts/<name>`.

Invariants
* A spool that is in use is never taken over. It is in use while its lock is held, or while its `status.json` changes.
* The first process that makes the file has the spool. Where there are hard links, that is atomic, also without locks.
* Processes of one kernel that see the same FIFO use the same spool, in whatever containers they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from ..config.mounts import is_network_file_system
from ..config.state_folder import host_name
from ..errors import ConfigurationError
from .files import get_int, get_str, move_aside, open_file, read_json, seal, write_atomically
from .kernel import boot_id, namespace
from .layout import Spool
from .lock import running
from .numbers import close_high

FRESH_SECONDS = 15.0
"""With an older `status.json` another host no longer uses its spool: it is written every second."""
UNSURE_SECONDS = 3.0
"""How long to wait for processes to notice that their FIFO was replaced, or for `status.json` to change."""
_MAX_LANES = 8


class Host(NamedTuple):
    """A process's view of a spool."""

    boot: str
    """The id of the kernel's boot, a new one each time."""
    mounts: int
    """The inode of the mount namespace; 0 if it is not known."""
    device: int
    inode: int
    """`device` and `inode` identify the FIFO."""

    @classmethod
    def of(cls, spool: Spool) -> Host:
        """This process's view. OSError without a FIFO."""
        fifo = os.stat(spool.queue, follow_symlinks=False)
        return cls(boot_id(), namespace("mnt"), fifo.st_dev, fifo.st_ino)

    @classmethod
    def read(cls, spool: Spool) -> Host | None:
        """The view of the host that uses the spool; None when no host does, or the file is damaged."""
        data = read_json(spool.host)
        boot = get_str(data, "boot") if data else ""
        if not data or not boot:
            return None
        return cls(boot, get_int(data, "mounts"), get_int(data, "device"), get_int(data, "inode"))

    def has_same_pipe(self, other: Host) -> bool:
        return (self.boot, self.device, self.inode) == (other.boot, other.device, other.inode)

    def has_same_mounts(self, other: Host) -> bool:
        return self.boot == other.boot and self.mounts == other.mounts != 0


def lane_of_this_host(spool: Spool) -> Spool:
    """Return the spool itself, prepared, or a lane in it when another host uses the spool.

    Raises ConfigurationError when a folder can't be written to, or when all lanes are in use.
    """
    try:
        for lane in _lanes(spool):
            lane.prepare()
            if take(lane):
                return lane
    except OSError as error:
        raise ConfigurationError("spool", spool.path, f"a folder that this user can write to ({error})") from error
    raise ConfigurationError("spool", spool.path, "is in use on other hosts: give each host a folder of its own")


def _lanes(spool: Spool) -> Iterator[Spool]:
    yield spool
    name = host_name()
    for number in range(1, _MAX_LANES):
        yield Spool(os.path.join(spool.hosts, name if number == 1 else f"{name}-{number}"))


def take(spool: Spool) -> bool:
    """Take a prepared spool for this host; False when another one uses it. OSError when `host` can't be written."""
    deadline = time.monotonic() + UNSURE_SECONDS
    while True:
        ours, theirs = Host.of(spool), Host.read(spool)
        if theirs is None:
            if _claim(spool, ours):
                return True
            time.sleep(0.01)
            continue
        if theirs.has_same_pipe(ours):
            return True
        if theirs.has_same_mounts(ours) or not _is_in_use(spool, theirs):
            write_atomically(spool.host, _content(spool, ours))
            return True
        # On the same kernel the FIFO may just have been replaced, which the spool's processes notice soon.
        if theirs.boot != ours.boot or time.monotonic() >= deadline or _has_lane(spool):
            return False
        time.sleep(0.1)


def keep(spool: Spool) -> bool:
    """Whether this host still has the spool; make or correct the file `host`. OSError when that fails."""
    ours, theirs = Host.of(spool), Host.read(spool)
    if theirs is None:
        return _claim(spool, ours)
    if not theirs.has_same_mounts(ours):
        return theirs.has_same_pipe(ours)
    if not theirs.has_same_pipe(ours):
        write_atomically(spool.host, _content(spool, ours))
    return True


def _claim(spool: Spool, ours: Host) -> bool:
    """Make the file `host`; False when another process, on any host, was first."""
    temporary = f"{spool.host}.{os.getpid()}-{os.urandom(4).hex()}"
    fd = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(fd, seal(_content(spool, ours)))
        os.link(temporary, spool.host)
    except FileExistsError:
        if Host.read(spool) is None and _is_old(spool.host):  # damaged
            with contextlib.suppress(FileNotFoundError):
                move_aside(spool.host)
                os.unlink(spool.host)
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK):
            raise
        write_atomically(spool.host, _content(spool, ours))  # a file system without hard links
    finally:
        close_high(fd)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return True


def _content(spool: Spool, ours: Host) -> dict[str, object]:
    return {**ours._asdict(), "id": spool.read_id()}


def _is_old(path: str) -> bool:
    """Whether a file is over a second old. While it is made it has two names, and `open_file` refuses it."""
    try:
        return time.time() - os.lstat(path).st_ctime > 1.0
    except OSError:
        return False


def _is_in_use(spool: Spool, theirs: Host) -> bool:
    if running(spool) is not None:
        return True
    ended = (read_json(spool.status) or {}).get("ended")
    if ended or not _is_fresh(spool, spool.status if ended is False else spool.host):
        return False
    # On a local disk another boot id may be from before this host's reboot: then the status does not change.
    return theirs.boot == boot_id() or is_network_file_system(spool.path) or _changes(spool.status)


def _changes(path: str) -> bool:
    """Whether the content of a JSON file changes within `UNSURE_SECONDS` (3)."""
    before, deadline = read_json(path), time.monotonic() + UNSURE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if read_json(path) != before:
            return True
    return False


def _is_fresh(spool: Spool, path: str) -> bool:
    """Whether a file is younger than `FRESH_SECONDS`, by the file system's clock: the clocks of hosts may differ."""
    try:
        written = os.stat(path).st_mtime
        os.utime(spool.path)
        return os.stat(spool.path).st_mtime - written < FRESH_SECONDS
    except OSError:
        return False


def _has_lane(spool: Spool) -> bool:
    """Whether this host already uses its lane: a shipper process runs there."""
    lane = Spool(os.path.join(spool.hosts, host_name()))
    try:
        theirs = Host.read(lane)
        return theirs is not None and running(lane) is not None and theirs.has_same_pipe(Host.of(lane))
    except OSError:
        return False
