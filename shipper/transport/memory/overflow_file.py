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
from .shared_file import Mapping, Owner

MAGIC = b"shpover1"

_ROOM_BYTES = 8 * 1024 * 1024  # with less free in memory, and less than the limit, the file is in the second folder
_ATTEMPTS = 100  # while other code closes all descriptors again and again; some milliseconds

T = TypeVar("T")


class OverflowFile:
    """Not for several threads at once.

    ``limit``: bytes that may wait in it. ``spool``: the path of the spool. ``on_taken_over`` is called when the shipper
    process has taken over what was in the file, as that of a process that has ended.
    """

    def __init__(
        self, folders: tuple[str, ...], owner: Owner, *, limit: int, spool: str, on_taken_over: Callable[[], None]
    ) -> None:
        self.path = ""
        self._folders = folders
        self._owner = owner
        self._limit = limit
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

    def touch(self, size: int) -> None:
        """Keep the file from cleaners. One that was removed is made again with its first ``size`` bytes."""
        own = self._own
        if own is None or not own.is_own():
            return
        if os.fstat(own.number).st_nlink:
            os.utime(own.number)
            return
        self._make_again(own, os.pread(own.number, size, 0))

    def close(self, *, remove: bool) -> bool:
        """Close the file, and ``remove`` it; False when it was not open."""
        own, self._own = self._own, None
        if own is None:
            return False
        if remove and own.is_own():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        own.close()
        return True

    def _reopen(self, before: OwnDescriptor) -> None:
        """Get the file back after other code has closed its descriptor, and with it the lock.

        In between, the shipper process may have taken it over: then what is in it is journaled and counted there.
        """
        self._own = own = shared_file.reopen(self.path, before.identity)
        if own is None:
            self._on_taken_over()

    def _make_again(self, removed: OwnDescriptor, content: bytes) -> None:
        self._own = None
        try:
            is_whole = os.pwrite(self._create().number, content, 0) == len(content)
        except OSError:
            is_whole = False
        if is_whole:
            removed.close()
        else:  # there is no space for it: the removed file goes on to be used
            self._remove()
            self._own = removed

    def _create(self) -> OwnDescriptor:
        *others, last = self._folders
        for folder in others:
            try:
                own = self._create_in(folder)
            except OSError as error:
                if error.errno == errno.EBADF:  # other code closes descriptors right now; the folder has space
                    raise
                continue
            if self._has_room(folder):
                return own
            self._remove()
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

    def _has_room(self, folder: str) -> bool:
        """Whether what may wait has space there: a container's memory may be small, or full of other things."""
        try:
            found = os.statvfs(folder)
        except OSError:
            return True
        return found.f_bavail * found.f_frsize >= min(self._limit, _ROOM_BYTES)

    def _remove(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            own.close()
