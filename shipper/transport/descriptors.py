"""Descriptors at numbers that other code seldom touches, recognised before each use.

Code that daemonises a process closes every descriptor, and the next file that the application opens gets one of those
numbers. No byte may be written to that file.

Invariants
* A number is used only after a check that it is still the same descriptor. If it is not, the file is opened again by
  its path, or the use fails.
* A number that belongs to another file by now is never closed.

How: the number is high (768 and above, lower where the limit is lower): `open` gives it away last, and loops up to 256
do not reach it. The open file description carries a tag: the signal number of F_SETSIG, which has no effect without
O_ASYNC and which hardly any other code sets. F_GETSIG costs 0.2 to 0.4 µs in Python, 2 to 3 % of a logging call. Where
there are no tags fstat is used, which costs twice that.

What is not prevented: between the check and the write, another thread may close the number and open another file there.
That takes a dup2 to this very number, or an application with all lower numbers in use, within less than a microsecond;
files that this package opens at that moment get other numbers (`spool/numbers.py`). Nor is another file noticed that
has the same number and the same tag, in an application that uses F_SETSIG itself. When other code closes the last
descriptor of a pipe, since the shipper process was just killed, the kernel drops what is in it. It is put back from the
pipe mirror, but only after this process has ended.
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

_tags: dict[int, int] = {}  # number → the tag last set there; the next descriptor with this number gets another one


class OwnDescriptor:
    """A descriptor of this process. Pass `number` to a system call only right after `is_own` has returned True."""

    def __init__(self, fd: int) -> None:
        """Take over an open descriptor and move it to a high number."""
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
        """Close the descriptor, unless its number belongs to another file by now. Idempotent."""
        if self.is_own():
            close_high(self.number)

    def duplicate(self, lowest: int) -> OwnDescriptor | None:
        """Return the duplicate that other code made at ``lowest`` or one of the next 63 numbers; None without one."""
        twin = copy.copy(self)
        for twin.number in range(lowest, lowest + 64):
            if twin.number != self.number and twin.is_own():
                return twin
        return None

    def disable(self) -> None:
        """Close the file but keep the number in use: writes to it fail from now on, until `close`.

        Threads that are about to write must not write to a file that the application opens next.
        """
        if not self.is_own():
            return
        with contextlib.suppress(OSError):  # no descriptor is free: the file stays open
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(null, self.number, inheritable=False)
            close_high(null)
            self._mark()


def _set_tag(number: int) -> int:
    """Set a new tag at the descriptor and return it; return 0 where there are no tags."""
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
