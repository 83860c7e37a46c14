"""Writes the journal: moves bytes out of the pipe into append-only segments.

Invariants: one process has a `Writer` at a time, the one that holds the spool's lock. Bytes are only added, and only to
the segment with the highest number; half a frame may be cut off. With `os.splice` bytes are never in this process's
memory alone: they are in the pipe or in the segment. A new segment begins at a frame's border. After a kill at any step
the next writer can go on, and no reader has to go back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable

from ..spool.files import open_file
from ..spool.owner import make_folder
from ..transport import frame
from ..transport.pipe import bytes_in_pipe
from .segments import Position, segment_path, segments, unfinished_frame

MAX_FOREIGN_FILES = 100  # numbers in a row that are passed over because something else has their place
_CHUNK = 1024 * 1024
_COPY_BYTES = 64 * 1024


class Writer:
    """Adds to the journal in ``folder``.

    ``segment_bytes``: a new segment is due when one has this size. ``first``: the lowest number to write to. It is the
    highest that a cursor or the account has reached, for a journal whose segments were all deleted.
    """

    def __init__(self, folder: str, *, segment_bytes: int = sys.maxsize, first: int = 1) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._number = first
        self._fd = -1
        self._offset = 0
        self._unsynced = False
        self._copies = not hasattr(os, "splice")
        self.unwritten = b""  # what was read without splice and not written yet, since the disk is full
        self.spliced = 0  # bytes that have come out of the pipe

    @property
    def position(self) -> Position:
        return Position(self._number, self._offset)

    def open(self) -> None:
        """Go on at the end of the last segment. OSError when it can't be opened."""
        if self._fd >= 0:
            return
        # Always the last segment: readers that have gone on to it do not come back.
        self._number = max([self._number, *segments(self._folder)])
        # Not O_APPEND: splice refuses such a file. The end is the file's size, which a crash may have left anywhere.
        self._fd, self._number = self._open_from(self._number)
        self._offset = os.fstat(self._fd).st_size

    def _open_from(self, number: int) -> tuple[int, int]:
        """Open the segment ``number``, or the next one whose path no folder, link or foreign file has."""
        for candidate in range(number, number + MAX_FOREIGN_FILES):
            try:
                return open_file(segment_path(self._folder, candidate), os.O_RDWR | os.O_CREAT), candidate
            except OSError as error:
                if not isinstance(error, (PermissionError, IsADirectoryError)) and error.errno != errno.ELOOP:
                    raise
        raise PermissionError(errno.EACCES, "no segment can be made", self._folder)

    def splice(self, pipe: int, most: int) -> int:
        """Move up to ``most`` bytes from the pipe into the segment; return how many, 0 when the pipe has no writers.

        BlockingIOError when the pipe is empty, another OSError when the disk does not take them: they stay in the pipe.
        """
        self.open()
        moved = self._move(pipe, most)
        self._offset += moved
        self.spliced += moved
        self._unsynced = self._unsynced or moved > 0
        return moved

    def _move(self, pipe: int, most: int) -> int:
        if not self._copies:
            try:
                return os.splice(pipe, self._fd, most, offset_dst=self._offset, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                raise
            except OSError as error:  # forbidden by a filter of system calls, or not supported by the file system
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS):
                    raise
                self._copies = True
        return self._copy(pipe, most)

    def _copy(self, pipe: int, most: int) -> int:
        """Read and write instead of splice. A SIGKILL in between loses what was read, at most 64 KiB."""
        if not self.unwritten:
            self.unwritten = os.read(pipe, min(most, _COPY_BYTES))
        written = os.pwrite(self._fd, self.unwritten, self._offset)
        self.unwritten = self.unwritten[written:]
        return written

    def ends_whole(self) -> bool:
        """Whether the journal ends at a frame's border. A splice, or a full disk, may leave half a frame there."""
        return not self.unwritten and not self.unfinished()

    def unfinished(self) -> bytes:
        """Return the beginning of a frame at the journal's end whose rest is not there; empty at a frame's border."""
        self.open()
        return unfinished_frame(self._fd, self._offset)

    def append(self, data: bytes) -> int:
        """Write whole frames that did not come out of the pipe. Only at a frame's border.

        Returns how many bytes the disk took, always whole frames, which stay: a reader may have read them already.
        OSError when it took none.
        """
        self.open()
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self._offset + written)
        except OSError:
            written = frame.scan(data[:written], growing=True).consumed
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._offset + written)
            if not written:
                raise
        self._offset += written
        self._unsynced = True
        return written

    @property
    def is_full(self) -> bool:
        return self._offset >= self._segment_bytes

    @property
    def space(self) -> int:
        """Bytes that the open segment takes until the next one is due; 0 or less when it is."""
        return self._segment_bytes - self._offset

    def rotate_if_due(self) -> bool:
        """Begin the next segment if this one is full; return whether it was begun. Only at a frame's border."""
        if not self.is_full:
            return False
        self.sync()
        try:
            fd, number = self._open_from(self._number + 1)
        except OSError:  # no inode or descriptor is free: this segment grows larger
            if os.path.lexists(segment_path(self._folder, self._number + 1)):
                self.close()
            return False
        self.close()
        self._fd, self._number = fd, number
        self._offset = os.fstat(fd).st_size
        return True

    def move_on(self) -> None:
        """Begin the next segment, since this one can't grow any more (EFBIG), with the unfinished frame from its end.

        OSError when there can be none, or when this one holds no whole frame.
        """
        half = self.unfinished()
        if len(half) >= self._offset:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self._folder)
        beside = os.path.join(self._folder, "next")
        fd = open_file(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            if os.write(fd, half) != len(half):
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), beside)
            number = self._free_number()
            # From now on readers see the new segment, and do not come back to the old one.
            os.rename(beside, segment_path(self._folder, number))
        except OSError:
            os.close(fd)
            raise
        # After a crash before this, or a failure, the half is in both segments; in the old one it is damage.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._offset - len(half))
        self.close()
        self._fd, self._number, self._offset = fd, number, len(half)

    def read_from(self, position: Position) -> bytes:
        """Return the content of the segment from ``position``; all of it when the position is in another one."""
        if self._fd < 0:
            return b""
        begin = position.offset if position.segment == self._number else 0
        pieces = []
        while piece := os.pread(self._fd, _CHUNK, begin):
            pieces.append(piece)
            begin += len(piece)
        return b"".join(pieces)

    @property
    def is_removed(self) -> bool:
        """Whether the segment that is written to is not at its path any more."""
        return self._fd >= 0 and not os.path.lexists(segment_path(self._folder, self._number))

    def restore(self) -> bool:
        """Make the open segment again, with everything in it, if it was removed; return whether it was.

        OSError when that can't be done now. Only by the process that holds the lock of the spool.
        """
        if not self.is_removed:
            return False
        path = segment_path(self._folder, self._number)
        with contextlib.suppress(FileExistsError):
            make_folder(self._folder)
        beside = os.path.join(self._folder, "next")
        fd = open_file(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            offset = 0
            while offset < self._offset and (copied := os.sendfile(fd, self._fd, offset, self._offset - offset)):
                offset += copied
            os.rename(beside, path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd = fd
        return True

    def _free_number(self) -> int:
        number = self._number + 1
        while os.path.lexists(segment_path(self._folder, number)):
            number += 1
        return number

    def sync(self) -> None:
        if self._unsynced and self._fd >= 0:
            os.fsync(self._fd)
            self._unsynced = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def drain_pipe(pipe: int, splice: Callable[[int], int]) -> None:
    """Move what is in the pipe at this moment into the journal; ``splice`` gets the number of bytes to move at most.

    What is written meanwhile stays in the pipe, so that busy writers can't keep the caller. OSError when not all of it
    can be taken: the rest stays in the pipe.
    """
    left = bytes_in_pipe(pipe)
    while left > 0 and (moved := splice(left)) > 0:
        left -= moved


def untaken(writer: Writer, *pipes: int) -> tuple[bytes, bytes]:
    """Return what the journal did not take: the unfinished frame at its end, and the rest, read from the pipes."""
    beginning, pieces = b"", []
    with contextlib.suppress(OSError):
        beginning, pieces = writer.unfinished(), [writer.unwritten]
    for pipe in pipes:
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(pipe, _CHUNK):
                pieces.append(piece)
    return beginning, b"".join(pieces)
