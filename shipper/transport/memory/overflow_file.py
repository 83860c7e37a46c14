"""The file of one process's overflow: made at its first use, opened again after other code has closed it.

It is in the first folder (in memory) if that has room for the limit or for 8 MiB, otherwise in the second (the spool).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
from collections.abc import Callable
from typing import TypeVar

from ..descriptors import OwnDescriptor
from . import shared_file
from .shared_file import HEAD_BYTES, Mapping, Owner

MAGIC = b"shpover1"

_ROOM_BYTES = 8 * 1024 * 1024  # with less free than this and than the limit, the second folder is used
_PIECE_BYTES = 1024 * 1024  # bytes that are copied at a time
_ATTEMPTS = 100  # while other code keeps closing all descriptors; they take some milliseconds

T = TypeVar("T")


class OverflowFile:
    """The file of an overflow. Only one thread at a time may use it.

    ``limit``: bytes that may wait in the file. ``path``: where it was made last, empty before. ``spool``: the path of
    the spool. ``on_taken_over`` is called when the shipper process has taken over the file, since other code closed the
    descriptor and with it the lock.
    """

    def __init__(
        self, folders: tuple[str, ...], owner: Owner, *, limit: int, spool: str, on_taken_over: Callable[[], None]
    ) -> None:
        self.path = ""
        self.limit = limit
        self._folders = folders
        self._owner = owner
        self._spool = spool
        self._on_taken_over = on_taken_over
        self._names = (f"{owner.token.hex()}-{attempt}" for attempt in itertools.count())
        self._own: OwnDescriptor | None = None

    def use(self, operation: Callable[[int], T]) -> T:
        """Return the result of ``operation`` on the open file; repeat it if other code closes the descriptor."""
        for _ in range(_ATTEMPTS):
            try:
                return operation(self.open().number)
            except OSError as error:
                if error.errno != errno.EBADF:
                    raise
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)

    def open(self) -> OwnDescriptor:
        """The descriptor of the file, which is made at its first use. OSError when it can't be opened now."""
        own = self._own
        if own is not None:
            if own.is_own():
                return own
            self._reopen(own)
        return self._own or self._create()

    def free(self, start: int, stop: int) -> None:
        """Free the memory of these bytes; where that fails, it stays in use until the file is truncated."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            read = Mapping(self.open(), stop - start, offset=start)
            read.memory.madvise(mmap.MADV_REMOVE)
            read.close()

    def touch(self, start: int, end: int) -> None:
        """Touch the file, so that no cleaner removes it. Make a removed one again, with its head and these bytes.

        Without space for that, the removed file stays in use until a later call.
        """
        own = self._own
        if own is None or not own.is_own():
            return
        if os.fstat(own.number).st_nlink:
            os.utime(own.number)
            return
        for folder in self._folders:
            with contextlib.suppress(OSError):
                if _has_room(folder, HEAD_BYTES + end - start):
                    self._own, self.path = self._copied(own, folder, start, end)
                    own.close()
                    return

    def close(self, *, remove: bool) -> bool:
        """Close the file, and delete it if ``remove``; return False when it was not open."""
        own, self._own = self._own, None
        if own is None:
            return False
        if remove and own.is_own():
            _discard(own, self.path)
        else:
            own.close()
        return True

    def _reopen(self, before: OwnDescriptor) -> None:
        """Get the file back after other code has closed its descriptor, and with it the lock.

        In between, the shipper process may have taken it over: then what is in it is journaled and counted there.
        """
        self._own = own = shared_file.reopen(self.path, before.identity)
        if own is None:
            self._on_taken_over()

    def _copied(self, own: OwnDescriptor, folder: str, start: int, end: int) -> tuple[OwnDescriptor, str]:
        # Under its old name, by which the account knows its drops.
        names = itertools.chain([os.path.basename(self.path)], self._names)
        made, path = shared_file.create(folder, names, MAGIC, self._owner, spool=self._spool)
        try:
            _copy(own.number, made.number, 0, HEAD_BYTES)
            _copy(own.number, made.number, start, end)
        except BaseException:
            with contextlib.suppress(OSError):  # so that nobody takes it over
                os.ftruncate(made.number, 0)
            _discard(made, path)
            raise
        return made, path

    def _create(self) -> OwnDescriptor:
        *others, last = self._folders
        for folder in others:
            try:
                own = self._create_in(folder)
            except OSError as error:
                if error.errno == errno.EBADF:  # other code closes descriptors right now; the folder has space
                    raise
                continue
            if _has_room(folder, min(self.limit, _ROOM_BYTES)):
                return own
            self._own = None
            _discard(own, self.path)
        try:
            return self._create_in(last)
        except OSError as error:
            if not others or error.errno == errno.EBADF:
                raise
            return self._create_in(others[0])  # the disk is full: use what little memory there is

    def _create_in(self, folder: str) -> OwnDescriptor:
        # Each name is used once: the shipper process may have taken over an earlier file of this process.
        own, self.path = shared_file.create(folder, self._names, MAGIC, self._owner, spool=self._spool)
        self._own = own
        return own


def _has_room(folder: str, size: int) -> bool:
    """Whether ``size`` bytes are free there: a container's memory may be small, or full of other things."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return True
    return found.f_bavail * found.f_frsize >= size


def _copy(source: int, target: int, start: int, end: int) -> None:
    for at in range(start, end, _PIECE_BYTES):
        piece = os.pread(source, min(_PIECE_BYTES, end - at), at)
        if os.pwrite(target, piece, at) != len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _discard(own: OwnDescriptor, path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
    own.close()
