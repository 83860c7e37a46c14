"""Checks of the spool, its disk, and of files that nothing uses any more."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator

from ...config.mounts import file_system_of, is_network_file_system
from ...config.settings import Settings
from ...config.state_folder import default_folder
from ...errors import ConfigurationError
from ...report import read_status
from ...spool.layout import Spool
from ...transport.memory.shared_file import list_files
from ..status.diagnosis import DEGRADED, FAILING, HEALTHY, NOT_RUNNING, diagnose
from ..status.find import as_user, user_name
from ..terminal import plural, size
from .result import Level, Result, error, ok, warning

SHOWN = 3  # folders that are named in a line
DAY = 86_400.0  # seconds

_LEVELS: dict[int, Level] = {HEALTHY: "ok", DEGRADED: "warning", FAILING: "error", NOT_RUNNING: "ok"}


def check_spool(settings: Settings) -> Iterator[Result]:
    """Check the spool. Root checks it with its owner's rights: only the owner sees which process holds the lock."""
    try:
        owner = os.stat(settings.spool).st_uid
    except OSError:
        owner = os.geteuid()
    if os.geteuid() != 0 or owner == 0:
        yield from _check_spool(settings)
        return
    name = user_name(owner)
    if not settings.owner:
        yield warning(
            "spool",
            f"{settings.spool} belongs to the user {name}, and this is root: it is checked as that user",
            f"Nothing to do if the application runs as {name}; if root starts it, give owner={name!r} (SHIPPER_OWNER).",
        )
    yield from as_user(owner, lambda: list(_check_spool(settings)))


def _check_spool(settings: Settings) -> Iterator[Result]:
    spool = Spool(settings.spool)
    yield from _folder(spool)
    yield from _disk(spool, settings.spooling.quota)
    if os.path.exists(spool.status):
        for finding in diagnose(read_status(spool, settings.app)):
            yield Result(_LEVELS[finding.severity], "process", finding.what, finding.remedy)
    else:
        yield ok("process", "no shipper process has run with this spool yet")
    yield from _leftovers(spool)


def _nearest(path: str) -> str:
    """The path, or the nearest folder above it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _folder(spool: Spool) -> Iterator[Result]:
    if is_network_file_system(spool.path):
        yield warning(
            "spool",
            f"{spool.path} is on a network file system ({file_system_of(spool.path)})",
            "Set SHIPPER_SPOOL to a local folder.",
        )
    if not os.path.isdir(spool.path):
        above = _nearest(spool.path)
        if os.access(above, os.W_OK | os.X_OK):
            yield ok("spool", f"{spool.path} does not exist yet, and can be made")
        else:
            yield error("spool", f"{spool.path} cannot be made: {above} is not writable", "Set SHIPPER_SPOOL.")
        return
    try:
        spool.check()
        with tempfile.TemporaryFile(dir=spool.path):
            pass
    except ConfigurationError as problem:
        yield error("spool", str(problem), "Correct owner and mode, or set SHIPPER_SPOOL to another folder.")
    except OSError as problem:
        yield error("spool", f"{spool.path} takes no file: {problem.strerror}", "Make room, or set SHIPPER_SPOOL.")
    else:
        yield ok("spool", f"{spool.path} ({file_system_of(spool.path) or 'unknown file system'})")


def _disk(spool: Spool, quota: int) -> Iterator[Result]:
    room = os.statvfs(_nearest(spool.path))
    free = room.f_bavail * room.f_frsize
    used = read_status(spool, "").journal_bytes
    if free + used < quota:
        yield warning(
            "disk",
            f"{size(free)} free: the journal may grow to {size(quota)} (quota)",
            "Make room, or lower SHIPPER_SPOOLING_QUOTA.",
        )
    else:
        yield ok("disk", f"{size(free)} free, quota {size(quota)}")
    if room.f_files and room.f_favail < 1000:
        yield warning("disk", f"{room.f_favail} inodes free", "Delete files that are not needed.")


def _leftovers(spool: Spool) -> Iterator[Result]:
    damaged = list_files(spool.damaged)
    if damaged:
        total = size(sum(map(_size, damaged)))
        yield warning(
            "leftovers", f"{total} of damaged bytes in {spool.damaged}", "Look at them, then delete the files."
        )
    foreign = [path for path in list_files(spool.path) if path.endswith(".foreign")]
    if foreign:
        text = f"{plural(len(foreign), 'file')} in the spool that {'was' if len(foreign) == 1 else 'were'} in the way"
        yield warning("leftovers", f"{text}: {', '.join(map(os.path.basename, foreign))}", "Delete what is not needed.")
    yield from _memory_leftovers(spool)


def _memory_leftovers(spool: Spool) -> Iterator[Result]:
    """A warning for memory files that were not written for a day and belong to no spool in the default place."""
    place = os.path.dirname(default_folder("x"))
    known = {each.overflow for each in (spool, *(Spool(path) for path in list_files(place)))}
    ours = f"/dev/shm/shipper-{os.geteuid()}"
    folders = {folder: list_files(folder) for folder in list_files(ours) if folder not in known}
    old = {folder: files for folder, files in folders.items() if files and max(map(_mtime, files)) < time.time() - DAY}
    if not old:
        return
    used = size(sum(_size(path) for files in old.values() for path in files))
    folder = f"{ours}/{os.path.basename(min(old))}" if len(old) == 1 else ours
    yield warning(
        "leftovers",
        f"{used} in {plural(len(old), 'folder')} of memory files in {folder}: a day old, of no spool in {place}",
        f"If their spools no longer exist, delete these folders: {_some(old)}",
    )


def _some(folders: Iterable[str]) -> str:
    names = sorted(map(os.path.basename, folders))
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _size(path: str) -> int:
    """The bytes that a file takes on disk, without its holes."""
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
