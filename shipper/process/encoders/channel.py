"""Values between the shipper process and an encoder process, through two pipes: each is pickled, behind its length."""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any

from ..waker import poll

_LENGTH = struct.Struct("<Q")
_PIECE = 1 << 20  # bytes of one read


class Channel:
    """``reading`` and ``writing`` are descriptors, which `close` closes. One thread may send while another receives."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self._received = bytearray()

    def send(self, value: Any) -> None:
        """OSError when the other process has ended."""
        data = pickle.dumps(value)
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            rest = rest[os.write(self.writing, rest) :]

    def receive(self, seconds: float | None = None) -> Any:
        """Wait for a value; None when nothing came for so many seconds, perhaps in the middle of one.

        EOFError when the other process has ended.
        """
        while (size := self._size()) is None:
            if not poll(seconds, self.reading):
                return None
            piece = os.read(self.reading, _PIECE)
            if not piece:
                raise EOFError("the other process has ended")
            self._received += piece
        data = bytes(self._received[_LENGTH.size : size])
        del self._received[:size]
        return pickle.loads(data)

    def _size(self) -> int | None:
        """Of the message that is first, with its length, when it is whole."""
        if len(self._received) < _LENGTH.size:
            return None
        size: int = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        return size if len(self._received) >= size else None

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)
