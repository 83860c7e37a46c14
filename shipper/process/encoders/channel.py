"""Values between the shipper process and an encoder process, through two pipes: each is pickled, behind its length."""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any

_LENGTH = struct.Struct("<Q")


class Channel:
    """``reading`` and ``writing`` are descriptors, which `close` closes. One thread may send while another receives."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing

    def send(self, value: Any) -> None:
        """OSError when the other process has ended."""
        data = pickle.dumps(value)
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            rest = rest[os.write(self.writing, rest) :]

    def receive(self) -> Any:
        """Wait for a value. EOFError when the other process has ended."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return pickle.loads(self._read(length))

    def _read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size:
            piece = os.read(self.reading, min(size, 1 << 20))
            if not piece:
                raise EOFError("the other process has ended")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)
