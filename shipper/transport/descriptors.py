"""Descriptors at numbers that other code seldom touches, recognised before each use.

Code that daemonises a process closes every descriptor, and the next file that the application opens gets one of those
numbers. Not a byte of ours may get into that file.

Invariants
* A number is used only after it was asked whether it still is our descriptor; otherwise the file is opened again by its
  path, or the use fails.
* A number that is another file's by now is never closed.

How: the number is high (768 and above, less where the limit is lower): `open` gives it away last, and loops up to 256
do not reach it. The open file description carries a tag: the signal number of F_SETSIG, which has no effect without
O_ASYNC and which no other code sets. F_GETSIG costs 0.2 to 0.4 µs in Python, 2 to 3 % of a logging call. Where there
are no tags fstat is used, which costs twice that.

What remains impossible: between the question and the write another thread may close the number and give it to another
file. That takes a dup2 to this very number, or an application with all lower numbers in use, within less than a
microsecond; what we open ourselves in that moment gets another number (`spool/numbers.py`). Nor is a file recognised
that has our number and our tag, in an application that uses F_SETSIG itself. What is in a pipe that is open nowhere
else, since the shipper process was killed in the same second, ends with the close: the kernel drops it. It comes out of
the pipe mirror, and only when this process has ended.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os

from ..spool.numbers import close_high, move_up

_TAGS = range(34, 64)  # real-time signals
_F_SETSIG = getattr(fcntl, "F_SETSIG", None)
_F_GETSIG: int = getattr(fcntl, "F_GETSIG", 0)
_ask = fcntl.fcntl

_tags: dict[int, int] = {}  # number → the tag last set there: our next descriptor with that number gets another one


class OwnDescriptor:
    """A descriptor of this process. `number` is what system calls take, once `is_own` has said yes."""

    def __init__(self, fd: int) -> None:
        """Take over an open descriptor, which gets another number."""
        self.number = move_up(fd)
        self._mark()

    def _mark(self) -> None:
        found = os.fstat(self.number)
        self.identity = (found.st_dev, found.st_ino)
        self._tag = _set_tag(self.number)

    def is_own(self) -> bool:
        """Whether the number still is this descriptor: other code may have closed it, and opened something else."""
        try:
            if self._tag:
                return _ask(self.number, _F_GETSIG) == self._tag
            found = os.fstat(self.number)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.identity

    def close(self) -> None:
        """Close it unless the number is something else by now. Idempotent."""
        if self.is_own():
            close_high(self.number)

    def duplicate(self, lowest: int) -> OwnDescriptor | None:
        """The duplicate of this descriptor that other code has made, at a number from `lowest` on; None without one."""
        twin = copy.copy(self)
        for twin.number in range(lowest, lowest + 64):
            if twin.number != self.number and twin.is_own():
                return twin
        return None

    def disable(self) -> None:
        """Let go of the file but not of the number: writes to it fail from now on, until `close`.

        For threads that may be about to write to it: they must not write to what the application opens next.
        """
        if not self.is_own():
            return
        with contextlib.suppress(OSError):  # no descriptor is free: the file stays open
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(null, self.number, inheritable=False)
            close_high(null)
            self._mark()


def _set_tag(number: int) -> int:
    """The tag that the description has now, 0 where there are none."""
    if _F_SETSIG is None:
        return 0
    tag = _tags.get(number, _TAGS[-1]) + 1
    tag = tag if tag in _TAGS else _TAGS[0]
    try:
        fcntl.fcntl(number, _F_SETSIG, tag)
        if _ask(number, _F_GETSIG) != tag:
            return 0
    except OSError:
        return 0
    _tags[number] = tag
    return tag
