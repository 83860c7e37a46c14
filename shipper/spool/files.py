"""Files of the spool: opened without following links, replaced atomically, JSON with a checksum."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import stat
import time
import zlib
from collections.abc import Mapping
from typing import Any

from .numbers import close_high, open_high
from .owner import give, owner_uid

BLOCK_BYTES = 4096
"""JSON files grow in whole blocks, so that a longer text still fits in place when the disk is full."""

_CHECKSUM = re.compile(rb'\{"crc": (\d{1,10}), ')
_MAX_JSON_BYTES = 64 * 1024 * 1024  # three times the account of very many processes


def open_file(path: str, flags: int) -> int:
    """Open a file of the spool, mode 0600, without following a link; the descriptor.

    Raises PermissionError for anything but a regular file of this user with one name, OSError when it can't be opened.
    """
    # O_NONBLOCK: a FIFO at the path must not block. A file is truncated only after the checks.
    wanted = flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = open_high(path, wanted)
    if flags & os.O_CREAT:
        give(fd)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != owner_uid() or found.st_nlink > 1:
        close_high(fd)
        raise PermissionError(f"{path} is not a regular file owned by this user with exactly one name")
    if flags & os.O_TRUNC:
        os.ftruncate(fd, 0)
    return fd


def sync(fd: int) -> None:
    """`os.fsync`; nothing where the file system or a filter of system calls does not support it. OSError otherwise."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENOTSUP):
            raise


def reclaim_file(path: str, flags: int) -> int:
    """Like `open_file`, but rename first what is at the path if it is not this user's file. OSError when that fails."""
    try:
        return open_file(path, flags)
    except OSError as error:
        if not _blocks_path(error):
            raise
    move_aside(path)
    return open_file(path, flags)


def move_aside(path: str) -> None:
    """Rename a folder, link or foreign file at this path, so that a file can be made there. Nothing is deleted."""
    try:
        close_high(open_file(path, os.O_WRONLY))
    except FileNotFoundError:
        return
    except OSError:
        os.rename(path, f"{path}.{time.time_ns()}.foreign")


def _blocks_path(error: OSError) -> bool:
    # ENXIO: a FIFO without a reader, or a socket.
    return isinstance(error, (IsADirectoryError, PermissionError)) or error.errno in (errno.ELOOP, errno.ENXIO)


def seal(data: Mapping[str, Any]) -> bytes:
    """JSON in whole blocks with a checksum in front; `read_json` rejects it when a bit of it has changed."""
    text = json.dumps(data).encode()
    text = b'{"crc": %d, ' % zlib.crc32(text) + text[1:]
    return text.ljust(-(-len(text) // BLOCK_BYTES) * BLOCK_BYTES)


def write_atomically(path: str, data: Mapping[str, Any]) -> None:
    """Replace a JSON file: after a crash at any moment it is the old one or the new one. Raises OSError.

    On a full disk it is overwritten in place instead: that takes no new block, and a write of so few bytes is not
    interrupted by a SIGKILL. A cursor that can't be saved would keep the segments that fill the disk.
    """
    text = seal(data)
    temporary = f"{path}.new"
    try:
        _replace(path, temporary, text)
    except OSError as error:
        if _blocks_path(error):
            move_aside(temporary)
            move_aside(path)
            _replace(path, temporary, text)
            return
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        _overwrite(path, text)


def _replace(path: str, temporary: str, text: bytes) -> None:
    fd = open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _write_all(fd, text, temporary)
    finally:
        close_high(fd)
    os.replace(temporary, path)


def _overwrite(path: str, text: bytes) -> None:
    fd = open_file(path, os.O_WRONLY)
    try:
        if os.fstat(fd).st_size < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        _write_all(fd, text, path)
        os.ftruncate(fd, len(text))
    finally:
        close_high(fd)


def _write_all(fd: int, text: bytes, path: str) -> None:
    if os.write(fd, text) != len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def read_json(path: str) -> dict[str, Any] | None:
    """The object that `write_atomically` wrote; None when the file is missing, damaged or no JSON object."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if os.fstat(fd).st_size > _MAX_JSON_BYTES:
            return None
        try:
            data = json.loads(_checked(file.read()).decode(errors="replace"))
        except (ValueError, RecursionError, OSError, MemoryError):
            return None
    return data if isinstance(data, dict) else None


def _checked(text: bytes) -> bytes:
    """The text without its checksum; ValueError when they differ. A text without a checksum is taken as it is."""
    checksum = _CHECKSUM.match(text)
    if checksum is None:
        return text
    found = b"{" + text[checksum.end() :].rstrip(b" ")
    if zlib.crc32(found) != int(checksum[1]):
        raise ValueError("the checksum differs")
    return found


# Fields of a JSON file may be missing or of another type: another release may have written it.


def get_dict(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of that name, else an empty one."""
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def get_int(data: Mapping[str, Any], name: str) -> int:
    """The integer of that name, else 0."""
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def get_float(data: Mapping[str, Any], name: str) -> float:
    """The finite number of that name, else 0.0."""
    value = data.get(name)
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def get_str(data: Mapping[str, Any], name: str) -> str:
    """The text of that name, else ""."""
    value = data.get(name)
    return value if isinstance(value, str) else ""


MAX_TIME = 1e12  # seconds since the epoch; a larger number is no time


def get_time(data: Mapping[str, Any], name: str) -> float | None:
    """The time of that name in seconds since the epoch, else None."""
    value = data.get(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < MAX_TIME else None  # type: ignore[arg-type]


def get_times(data: Mapping[str, Any], name: str) -> dict[str, float]:
    """Name → time, without what is not a time."""
    found = get_dict(data, name)
    return {each: time for each in found if (time := get_time(found, each)) is not None}


def get_counts(data: Mapping[str, Any], name: str) -> dict[str, int]:
    """Name → count, without what is zero or not a count."""
    found = get_dict(data, name)
    return {each: count for each in found if (count := get_int(found, each))}


def get_texts(data: Mapping[str, Any], name: str) -> dict[str, str]:
    """Name → text, without what is not a text."""
    return {each: text for each, text in get_dict(data, name).items() if isinstance(text, str)}


def get_drops(data: Mapping[str, Any], name: str = "dropped") -> dict[str, dict[str, int]]:
    """Reason → level → count."""
    found = get_dict(data, name)
    return {reason: levels for reason in found if (levels := get_counts(found, reason))}
