"""Overflows and pipe mirrors of processes that are gone.

The shipper process adopts overflows: their frames go into the journal, their drops into the account, then the file is
removed. Of a mirror, only what the pipe lost goes into the journal.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Container, Iterable, Iterator

from ...spool.kernel import namespace
from ...spool.layout import Spool, memory_folder
from .. import drops, frame
from ..drops import Drops
from . import overflow_file, pipe_mirror, shared_file
from .overflow import DROPS_AT
from .pipe_mirror import SUFFIX, read_mirror
from .shared_file import NO_RESOURCES, NUMBER_AT, living_pids, process_is_gone

FOREIGN_MIRROR_SECONDS = 600.0
FOREIGN_OVERFLOW_SECONDS = 24 * 3600.0
UNKNOWN_SECONDS = 7 * 24 * 3600.0  # for files of an earlier version, or whose spool has lost its id
_CHUNK = 64 * 1024


class OrphanedOverflow:
    """The overflow of a process that is gone, locked by this process until it is closed or removed."""

    def __init__(self, path: str, fd: int, token: bytes, pid: int, read: int) -> None:
        self.name = os.path.basename(path)
        self.token = token
        self.pid = pid
        self.path = path
        self._fd = fd
        self._read = read

    @property
    def drops(self) -> Drops:
        return _read_drops(self._fd)

    @property
    def frames(self) -> bytes:
        """The whole frames that the pipe does not have. One that was being written at the kill was never accepted."""
        pieces = []
        at = self._read
        while chunk := os.pread(self._fd, _CHUNK, at):
            pieces.append(chunk)
            at += len(chunk)
        found = b"".join(pieces)
        return found[: frame.scan(found, growing=True).consumed]

    def skip(self, size: int) -> None:
        """Note that the next ``size`` bytes are in the journal: whoever takes over the file next must not add them."""
        self._read += size
        os.pwrite(self._fd, self._read.to_bytes(8, "little"), NUMBER_AT)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        self.close()

    def close(self) -> None:
        os.close(self._fd)


def orphaned_overflows(folder: str, known: Container[str]) -> Iterator[OrphanedOverflow]:
    """Yield the overflows whose owners are gone, except those at ``known`` paths."""
    for path in _overflows(folder):
        if path in known:
            continue
        with contextlib.suppress(OSError):
            taken = shared_file.take_over(path, overflow_file.MAGIC)
            if taken is not None:
                fd, (pid, token, read) = taken
                yield OrphanedOverflow(path, fd, token, pid, read)


def living_drops(folder: str) -> dict[str, Drops]:
    """The drops in a folder's overflows, of living and of ended processes: name of the file → drops."""
    found: dict[str, Drops] = {}
    for path in _overflows(folder):
        with contextlib.suppress(OSError, struct.error):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.pread(fd, len(overflow_file.MAGIC), 0) == overflow_file.MAGIC:
                    found[os.path.basename(path)] = _read_drops(fd)
            finally:
                os.close(fd)
    return found


def _read_drops(fd: int) -> Drops:
    return drops.unpack(os.pread(fd, drops.TABLE.size, DROPS_AT))


def _overflows(folder: str) -> list[str]:
    return [path for path in shared_file.list_files(folder) if not path.endswith(SUFFIX)]


def count_events(frames: bytes) -> Drops:
    """The events that begin in these frames, by level, counted as ``spool_full``."""
    table = drops.empty_table()
    for view in frame.scan(frames, complete=True).frames:
        if not view.part and not view.flags:
            table[drops.cell("spool_full", view.level)] += 1
    return drops.named(table)


class OrphanedMirror:
    """The pipe mirror of a process that is gone. It holds no descriptor: there may be many."""

    def __init__(self, path: str, token: bytes) -> None:
        self.token = token
        self.path = path

    def lost(self, journaled: Callable[[int, int], bool]) -> bytes:
        """Return the frames that are not journaled, in the order of logging. OSError when the file can't be read now.

        ``journaled`` tells whether a frame is, by its event's sequence number and its part.
        """
        try:
            found = read_mirror(self.path, self.token)
        except FileNotFoundError:  # a cleaner has removed it
            return b""
        return b"".join(piece for seq, part, piece in found if not journaled(seq, part))

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def is_writer_gone(folders: Iterable[str], pid: int) -> bool:
    """Whether the process that wrote frames under this pid has ended, in whatever container it ran.

    No process here has the pid, and no file in the folders whose owner lives has it in its head.
    """
    return process_is_gone(pid) and not any(pid in living_pids(folder) for folder in folders)


def remove_foreign(own: str) -> list[str]:
    """Remove memory files that nobody will adopt, of this user's other spools; return their paths.

    Their processes are gone. ``own`` is the memory folder of the caller's spool, which is left alone.

    A file is removed when the spool at the path in its head does not use its folder any more; a file from another mount
    namespace, when it is older than `FOREIGN_MIRROR_SECONDS` or, an overflow, `FOREIGN_OVERFLOW_SECONDS`; a file whose
    spool is not known, when it is older than `UNKNOWN_SECONDS`.
    """
    removed = []
    for folder in shared_file.list_files(memory_folder()):
        if folder == own:
            continue
        for path in shared_file.list_files(folder):
            with contextlib.suppress(OSError):
                if _remove_if_abandoned(path):
                    removed.append(path)
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return removed


def foreign_orphans() -> Iterator[str]:
    """Yield the paths of all memory files of this user, of any app, whose processes are gone."""
    for folder in shared_file.list_files(memory_folder()):
        for path in shared_file.list_files(folder):
            with contextlib.suppress(OSError):
                taken = shared_file.take_over(path, _magic_of(path))
                if taken is not None:
                    os.close(taken[0])
                    yield path


def _remove_if_abandoned(path: str) -> bool:
    taken = shared_file.take_over(path, _magic_of(path))
    if taken is None:
        return False
    fd, _ = taken
    try:
        if _is_abandoned(fd, path):
            os.unlink(path)
            return True
    finally:
        os.close(fd)
    return False


def _is_abandoned(fd: int, path: str) -> bool:
    origin, age = shared_file.read_origin(fd), time.time() - os.fstat(fd).st_mtime
    if origin is None:
        return age > UNKNOWN_SECONDS
    if origin.mounts == namespace("mnt"):
        spool = Spool(origin.spool)
        if os.path.lexists(spool.app) and not spool.read_id():  # a cleaner may have removed the id
            return age > UNKNOWN_SECONDS
        return spool.overflow != os.path.dirname(path)
    return age > (FOREIGN_MIRROR_SECONDS if path.endswith(SUFFIX) else FOREIGN_OVERFLOW_SECONDS)


def _magic_of(path: str) -> bytes:
    return pipe_mirror.MAGIC if path.endswith(SUFFIX) else overflow_file.MAGIC


def orphaned_mirrors(folder: str) -> Iterator[OrphanedMirror]:
    """Yield the mirrors whose owners are gone. OSError when one can't be opened for want of resources."""
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for path in (os.path.join(folder, name) for name in names if name.endswith(SUFFIX)):
        try:
            taken = shared_file.take_over(path, pipe_mirror.MAGIC)
        except OSError as error:
            if error.errno in NO_RESOURCES:
                raise
            continue  # another user's, or gone
        if taken is not None:
            fd, owner = taken
            os.close(fd)
            yield OrphanedMirror(path, owner.token)
