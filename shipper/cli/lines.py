"""Octets, as they come → lines of text."""

from __future__ import annotations

MOST = 64 * 1024
"""The most bytes of a line, before the marker that says how many were left out."""


class Lines:
    """Cuts a stream into lines, without the line's end (a CR before the LF too). Never holds more than one line.

    What is no UTF-8 is kept as backslash escapes.
    """

    def __init__(self) -> None:
        self._begun = b""
        self._left_out = 0

    def of(self, octets: bytes) -> list[str]:
        """The lines that end in there."""
        pieces = octets.split(b"\n")
        last = pieces.pop()
        if not pieces:
            self._hold(last)
            return []
        self._hold(pieces[0])
        found = [self._take()]
        found += [_text(piece, 0) for piece in pieces[1:]]
        self._hold(last)
        return found

    def rest(self) -> str | None:
        """The last line, when it had no end; None when there is none."""
        return self._take() if self._begun else None

    def _hold(self, piece: bytes) -> None:
        # One more than a line may have: it may be the CR before its end.
        room = MOST + 1 - len(self._begun)
        self._begun += piece[:room]
        self._left_out += max(0, len(piece) - room)

    def _take(self) -> str:
        line, left_out = self._begun, self._left_out
        self._begun, self._left_out = b"", 0
        return _text(line, left_out)


def _text(line: bytes, left_out: int) -> str:
    if line.endswith(b"\r") and not left_out:
        line = line[:-1]
    if len(line) <= MOST:
        return line.decode("utf-8", "backslashreplace")
    left_out += len(line) - MOST
    return f"{line[:MOST].decode('utf-8', 'backslashreplace')}[... {left_out} bytes left out ...]"
