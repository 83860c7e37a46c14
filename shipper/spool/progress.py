"""How far flushes and backends have come, in the small file `progress` of the spool.

Written by the shipper process that holds the lock; read by processes of the application that wait for a flush. It has
what `status.json` has too, but without delay, and is read with two short reads. Where it is missing, damaged or no
longer written, `status.json` is read.

Layout, little-endian, 40 bytes each: `BACKENDS` slots for backends, then `MARKS` slots for marks

    backend  name (first 8 bytes of its SHA-256) · 0 (8) · segment 8 · offset 8 · CRC32 of these fields 4 · unused 4
    mark     token of a process 8 · number 8 · segment 8 · offset 8 · CRC32 of these fields 4 · unused 4

Every event before a backend's segment and offset is settled there, and not sent again after a crash. A flush waits
until all backends have passed the place of its mark in the journal. A mark has the slot ``token % MARKS``: of two
processes with the same slot, the later mark is kept. The CRC reveals a slot that was read while it was written. A new
shipper process empties the file.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import zlib
from collections.abc import Sequence

from .._support.hashing import sha256_hex
from .files import open_file, reclaim_file

BACKENDS, MARKS = 64, 1024
STATUS_FILE = ""
"""Instead of a backend's name: the place up to which `status.json` reports all backends."""

_SLOT = struct.Struct("<8sQQQ")
_CRC = struct.Struct("<I4x")
_SLOT_BYTES = _SLOT.size + _CRC.size
_MARKS_AT = BACKENDS * _SLOT_BYTES
_FILE_BYTES = _MARKS_AT + MARKS * _SLOT_BYTES

Place = tuple[int, int]
"""Segment and offset in the journal."""


class ProgressWriter:
    """Used by the shipper process; each of its threads writes slots of its own. After an error it writes nothing."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        self._slots: dict[str, int] = {}
        self._lock = threading.RLock()
        try:
            self._fd = reclaim_file(path, os.O_RDWR | os.O_CREAT)
            os.ftruncate(self._fd, 0)  # what another process wrote may be about a journal that was deleted since
            os.posix_fallocate(self._fd, 0, _FILE_BYTES)  # at once: a slot can then be written when the disk is full
        except OSError:
            self.close()

    @property
    def is_open(self) -> bool:
        """Whether the file is written. If not, processes that flush read `status.json`."""
        return self._fd >= 0

    def write_backend(self, name: str, place: Place) -> None:
        """Note that the backend has settled, and saved as settled, every event before this place."""
        slot = self._slots.setdefault(name, len(self._slots))
        if slot < BACKENDS:
            self._write(slot * _SLOT_BYTES, _name_key(name), 0, place)

    def write_mark(self, token: bytes, number: int, place: Place) -> None:
        """Note that the process's marks up to this number are in the journal before this place."""
        self._write(_mark_at(token), token, number, place)

    def _write(self, at: int, key: bytes, number: int, place: Place) -> None:
        data = _SLOT.pack(key, number, *place)
        with self._lock:  # else another thread could close it, and its number become another file's
            if self._fd < 0:
                return
            try:
                os.pwrite(self._fd, data + _CRC.pack(zlib.crc32(data)), at)
            except OSError:
                self.close()

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)


class ProgressReader:
    """The file at ``path``, for one flush. Close it afterwards."""

    def __init__(self, path: str) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = open_file(path, os.O_RDONLY)

    def mark(self, token: bytes, number: int) -> Place | None:
        """The place in the journal before which the process's mark of this number stands; None while it is not known.

        It may be the place of a later mark of the process.
        """
        for key, reached, place in self._read(_mark_at(token), _SLOT_BYTES):
            if key == token and reached >= number:
                return place
        return None

    def have_passed(self, names: Sequence[str], place: Place) -> bool:
        """Whether each of these backends is known to have settled everything before a place."""
        found = {key: reached for key, _, reached in self._read(0, _MARKS_AT)}
        return all(found.get(_name_key(name), (0, -1)) >= place for name in names)

    def _read(self, at: int, size: int) -> list[tuple[bytes, int, Place]]:
        data = b""
        with contextlib.suppress(OSError):
            data = os.pread(self._fd, size, at) if self._fd >= 0 else b""
        found = []
        for start in range(0, len(data) - _SLOT_BYTES + 1, _SLOT_BYTES):
            slot = data[start : start + _SLOT.size]
            if _CRC.unpack_from(data, start + _SLOT.size)[0] == zlib.crc32(slot):
                key, number, segment, offset = _SLOT.unpack(slot)
                found.append((key, number, (segment, offset)))
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _name_key(name: str) -> bytes:
    return bytes.fromhex(sha256_hex(name.encode())[:16])


def _mark_at(token: bytes) -> int:
    return _MARKS_AT + int.from_bytes(token, "little") % MARKS * _SLOT_BYTES
