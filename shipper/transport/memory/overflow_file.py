"""The file of one process's overflow: made at its first use, opened again after other code has closed it.

It is in the first folder, in memory, if what may wait has room there, otherwise in the second one, in the spool.
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

_ROOM_BYTES = 8 * 1024 * 1024  # with less free in memory, and less than the limit, the file is in the second folder
_PIECE_BYTES = 1024 * 1024  # that are copied at once
_ATTEMPTS = 100  # while other code closes all descriptors again and again; some milliseconds

T = TypeVar("T")


class OverflowFile:
    """Not for several threads at once.

    ``limit``: bytes that may wait in it. ``path``: where it was made last, empty before. ``spool``: the path of the
    spool. ``on_taken_over`` is called when the shipper process has taken over what was in the file, as that of a
    process that has ended.
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
        """The result of an operation on the open file, tried again when other code closes its descriptor meanwhile."""
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
        """Give back the memory of these bytes; where that can't be done it stays until the file is made shorter."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            read = Mapping(self.open(), stop - start, offset=start)
            read.memory.madvise(mmap.MADV_REMOVE)
            read.close()

    def touch(self, start: int, end: int) -> None:
        """Keep the file from cleaners. One that was removed is made again, with its head and the bytes between.

        Where there is no space for that, the removed file goes on to be used until another call.
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
        """Close the file, and ``remove`` it; False when it was not open."""
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
        # Under its own name, by which its drops are known.
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
            return self._create_in(others[0])  # the disk is full: little memory is more than none

    def _create_in(self, folder: str) -> OwnDescriptor:
        # A name is used once: one file of this process may be with the shipper process already.
        own, self.path = shared_file.create(folder, self._names, MAGIC, self._owner, spool=self._spool)
        self._own = own
        return own


def _has_room(folder: str, size: int) -> bool:
    """Whether so many bytes have space there: a container's memory may be small, or full of other things."""
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
