"""Pipe mirrors of processes that have ended: what the pipe lost is put into the journal, and the files are removed.

The pipe loses its content when all processes that hold it are killed at once, or close it. The frames that each process
wrote last are in its pipe mirror. A frame that is in the journal or in the pipe must not be put back, so a mirror is
compared with the account once intake has read everything that was in the pipe when the mirror was found.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from ...journal.account import Account
from ...transport.memory.orphans import OrphanedMirror, orphaned_mirrors
from ...transport.pipe import bytes_in_pipe
from .adoption import Adoption
from .appender import Appender

_ALL = 1_000_000  # stretches of the journal to follow, more than it has
_MAX_LATE = 8  # mirrors whose frames are in memory while the disk does not take them


class EndedProcesses(Protocol):
    """Takes the mirrors of processes that have ended, in place of their removal."""

    def take(self, mirrors: Sequence[OrphanedMirror]) -> None:
        """Remove the mirrors, at once or later."""

    def knows(self, path: str) -> bool:
        """Whether the mirror at this path was taken, and is not removed yet."""


class Recovery:
    """Used by the main thread of the shipper process, which holds the pipe."""

    def __init__(
        self,
        folder: str,
        pipe: int,
        appender: Appender,
        adoption: Adoption,
        account: Account,
        ended_processes: EndedProcesses | None = None,
    ) -> None:
        self._ended_processes = ended_processes
        self._folder = folder
        self._pipe = pipe
        self._appender = appender
        self._adoption = adoption
        self._account = account
        self._has_looked = False  # whether `_find_lost` has run
        self._lost: list[OrphanedMirror] = []  # of processes that ended earlier; lost frames are not journaled yet
        self._lost_end = 0  # what `Appender.taken` is once intake has passed their last frame
        self._kept: set[str] = set()  # paths of mirrors that stay until their lost frames are in the journal
        self._ended: list[OrphanedMirror] = []  # of processes that ended later
        self._ended_end = 0  # what `Appender.taken` has to be before these are compared
        self._unclear: set[str] = set()  # paths of mirrors whose frames are either lost or in another FIFO
        self._found_more = False
        self._is_comparable = False  # whether no frame of `_ended` can be in a FIFO besides the pipe

    @property
    def is_pending(self) -> bool:
        """Whether something that the pipe lost is not in the journal yet."""
        return not self._has_looked or bool(self._lost) or self._adoption.late > 0

    def begin(self) -> None:
        """Put back what the pipe lost, before intake runs."""
        try:
            self._find_lost()
            if self._lost:
                self._appender.drain_pipe()
                self._account.follow(_ALL, ended=True)  # half a frame at its end: its rest is not in the pipe
            while self._lost:
                self._appender.append(self._lost_frames(self._lost[0]), lambda taken: None)
                self._put_back(self._lost.pop(0))()
        except OSError:  # no descriptor left, a full disk, or the quota: `look` tries again
            pass
        self._kept = {mirror.path for mirror in self._lost}

    def _find_lost(self) -> None:
        """Find processes that have ended already: what they wrote is now in the journal, in the pipe, or lost."""
        self._lost = list(orphaned_mirrors(self._folder))
        self._lost_end = self._end_of_pipe()
        self._has_looked = True

    def _end_of_pipe(self) -> int:
        return bytes_in_pipe(self._pipe) + self._appender.taken  # in this order, so that the sum is never too low

    def _lost_frames(self, mirror: OrphanedMirror) -> bytes:
        return mirror.lost(partial(self._account.has, mirror.token))

    def look(self) -> None:
        """Compare and remove mirrors of processes that have ended since; try again what `begin` could not put back.

        Nothing in the pipe is lost while this process holds it. Before, it may have been open in no process: the
        previous shipper process was killed while other code had closed a writer's descriptors.
        """
        if not self._has_looked:
            self._find_lost()
            self._kept = {mirror.path for mirror in self._lost}
        if self._lost:
            self._try_again()
        if self._ended and (self._appender.taken < self._ended_end or not self._compare_ended()):
            return
        before = self._only_pipe()
        self._ended = self._find_ended()
        self._ended_end = self._end_of_pipe()
        # Intake's thread may have gone on to another FIFO in between.
        self._is_comparable = before is not None and self._only_pipe() == before

    @property
    def is_unclear(self) -> bool:
        """Whether frames of an ended process may be lost, which can't be known while two FIFOs are read."""
        return bool(self._unclear)

    def finds_more(self) -> bool:
        """Whether mirrors of ended processes are still to be compared, or frames in them were put back just now."""
        with contextlib.suppress(OSError):
            self.look()
        # True for one more round after frames were put back: the deliverers may not have seen them yet.
        is_left = any(self._is_comparable or mirror.path not in self._unclear for mirror in self._ended)
        before, self._found_more = self._found_more, is_left or self._adoption.late > 0
        return before or self._found_more

    def _find_ended(self) -> list[OrphanedMirror]:
        ended = [mirror for mirror in orphaned_mirrors(self._folder) if mirror.path not in self._kept]
        if self._ended_processes is None:
            return ended
        return [mirror for mirror in ended if not self._ended_processes.knows(mirror.path)]

    @property
    def has_ended(self) -> bool:
        """Whether the last look found mirrors of processes that have ended."""
        return bool(self._ended)

    def _put_back(self, mirror: OrphanedMirror) -> Callable[[], None]:
        """Return what to call once the journal has a mirror's lost frames.

        It removes the mirror or, where deaths are reported, lets `_find_ended` find it again.
        """
        return mirror.remove if self._ended_processes is None else partial(self._kept.discard, mirror.path)

    def _remove(self, mirrors: Sequence[OrphanedMirror]) -> None:
        if self._ended_processes is not None:
            self._ended_processes.take(mirrors)
            return
        for mirror in mirrors:
            mirror.remove()

    def _compare_ended(self) -> bool:
        """Put back what the pipe has lost of processes that have ended; whether all were looked at."""
        self._account.follow(_ALL)
        self._unclear.clear()
        whole = []
        while self._ended and self._account.is_at_end and self._adoption.late < _MAX_LATE:
            mirror = self._ended.pop(0)
            frames = self._lost_later(mirror)
            if frames and not self._is_comparable:
                self._unclear.add(mirror.path)
            elif frames:
                self._kept.add(mirror.path)
                self._adoption.put_back_later(frames, self._put_back(mirror))
            else:
                whole.append(mirror)
        self._remove(whole)
        return not self._ended

    def _try_again(self) -> None:
        if self._appender.taken < self._lost_end:
            return
        self._account.follow(_ALL)
        while self._lost and self._account.is_at_end and self._adoption.late < _MAX_LATE:
            self._adoption.put_back_later(self._lost_frames(self._lost[0]), self._put_back(self._lost[0]))
            self._lost.pop(0)

    def _only_pipe(self) -> int | None:
        """The inode of the pipe; None when frames may be in a FIFO that was removed, or in one made in its place."""
        found = os.fstat(self._pipe)  # first: intake sets `has_earlier` before it replaces the pipe
        return found.st_ino if found.st_nlink and not self._appender.has_earlier else None

    def _lost_later(self, mirror: OrphanedMirror) -> bytes:
        # All frames of a process that the account has forgotten would seem to be lost.
        return self._lost_frames(mirror) if self._account.remembers_all else b""

    def end(self, *, all_journaled: bool) -> None:
        """Remove the mirrors of processes that have ended, once intake has ended and the pipe is empty.

        A mirror with frames that the journal lacks is left to the next process, except when an orphaned overflow has
        these frames (``all_journaled`` is False).
        """
        with contextlib.suppress(OSError):
            # First: if the pipe is empty afterwards, it has nothing of the processes in the list.
            ended = self._find_ended()
            if bytes_in_pipe(self._pipe):
                return
            self._account.follow(_ALL)
            # A death that is found only now is reported by the next shipper process: its mirror stays.
            self._remove([mirror for mirror in ended if not (all_journaled and self._lost_later(mirror))])
