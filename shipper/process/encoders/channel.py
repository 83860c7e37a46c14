"""Sends values between the shipper process and an encoder process through two pipes: length (8 bytes), then pickle."""

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
        """Send a value. OSError when the other process has ended."""
        data = pickle.dumps(value)
        rest = memoryview(_LENGTH.pack(len(data)) + data)
        while rest:
            rest = rest[os.write(self.writing, rest) :]

    def receive(self, seconds: float | None = None) -> Any:
        """Wait for a value; None when nothing came for ``seconds`` (None: no limit), also in the middle of a value.

        EOFError when the other process has ended, OSError for a value that can't be read here.
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
        try:
            return pickle.loads(data)
        except MemoryError:
            raise
        except Exception as error:  # of another version: the package was replaced while this process ran
            raise OSError(f"what the other process sent can't be read: {error!r}") from error

    def _size(self) -> int | None:
        """Return how many bytes the first message has, with its length; None while it is not complete."""
        if len(self._received) < _LENGTH.size:
            return None
        size: int = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        return size if len(self._received) >= size else None

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)
