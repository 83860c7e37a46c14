"""The segment files of the journal: names, sizes, deleting.

On disk: `<folder>/000000000001.seg`, `000000000002.seg`, ... Each holds the bytes that came out of the pipe, frame
after frame, and begins with a whole frame. A position is a segment's number and an offset in it. Only the `Writer` adds
bytes, to the segment with the highest number; segments are deleted, lowest number first, once every cursor and the
account have passed them. Numbers may have gaps; files with other names, folders, links and files of other users are
ignored.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable
from typing import NamedTuple

from ..spool.files import open_file
from ..transport import frame

_SUFFIX = ".seg"
_TAIL = 4 * frame.MAX_FRAME  # bytes at a segment's end in which its last frame is looked for


class Position(NamedTuple):
    """A place in the journal. Positions compare in the order of writing."""

    segment: int
    offset: int


def segments(folder: str) -> list[int]:
    """The numbers of the segments in a folder, oldest first. Files with other names are ignored."""
    return sorted(
        int(name[: -len(_SUFFIX)])
        for name in os.listdir(folder)
        if name.endswith(_SUFFIX) and name[: -len(_SUFFIX)].isascii() and name[: -len(_SUFFIX)].isdigit()
    )


def segment_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number:012d}{_SUFFIX}")


def segment_size(folder: str, number: int) -> int:
    """Bytes in a segment; 0 when it is not there."""
    try:
        return os.stat(segment_path(folder, number)).st_size
    except OSError:
        return 0


def bytes_between(folder: str, start: Position, end: Position) -> int:
    """Bytes of the journal from ``start`` up to ``end``."""
    before = sum(segment_size(folder, number) for number in segments(folder) if start.segment <= number < end.segment)
    return before - start.offset + end.offset


def size_on_disk(folder: str) -> int:
    """Bytes in all segments together."""
    return sum(segment_size(folder, number) for number in segments(folder))


def unfinished_frame(fd: int, size: int) -> bytes:
    """The unfinished frame at the end of an open segment of ``size`` bytes; empty when it ends at a border."""
    tail = os.pread(fd, _TAIL, max(0, size - _TAIL))
    return tail[frame.scan(tail).consumed :]


def release(folder: str, before: int, *, remove: Callable[[str], None] = os.unlink) -> int:
    """Delete the segments below the number ``before``, never the last one; return how many were deleted.

    One that can't be deleted now is tried again at the next call. ``remove`` deletes or moves the file at a path.
    """
    deleted = 0
    for number in segments(folder)[:-1]:
        if number < before:
            with contextlib.suppress(OSError):
                remove(segment_path(folder, number))
                deleted += 1
    return deleted


def punch_hole(folder: str, before: Position) -> None:
    """Free the disk blocks before a position in its segment; they read as zeros afterwards.

    For a full disk, where the last segment can't be deleted. OSError where the file system has no holes.
    """
    stop = before.offset - before.offset % mmap.ALLOCATIONGRANULARITY
    if not stop:
        return
    fd = open_file(segment_path(folder, before.segment), os.O_RDWR)
    try:
        with mmap.mmap(fd, stop) as passed:
            passed.madvise(mmap.MADV_REMOVE)
    except (ValueError, AttributeError) as error:  # the segment is shorter by now, or the system has no madvise
        raise OSError(errno.EINVAL, str(error)) from error
    finally:
        os.close(fd)
