"""SHIPPER - trails of processes that are gone: what the pipe lost is put back into the journal, and the files go."""

from __future__ import annotations

from functools import partial

from ..journal.account import Ledger
from ..transport.pipe_mirror import Left, left, waiting_in
from .intake import Intake

_ALL = 1_000_000  # stretches of the journal: it is followed to its end
_LATE = 8  # trails whose frames are in our memory while the disk does not take them


class Recovery:
    """Used by the main thread of the shipper process, which holds the pipe."""

    def __init__(self, folder: str, pipe: int, intake: Intake, ledger: Ledger) -> None:
        self._folder = folder
        self._pipe = pipe
        self._intake = intake
        self._ledger = ledger
        self._knows = False  # who was gone before we held the pipe
        self._before: list[Left] = []  # theirs: of these, what the pipe lost is not in the journal yet
        self._before_at = 0  # bytes that intake has taken when it is past their last frame
        self._kept: set[str] = set()  # these go once what they lost is in the journal
        self._passed: list[Left] = []  # these go once intake is past their last frame
        self._passed_at = 0

    @property
    def is_pending(self) -> bool:
        """Whether something that the pipe lost is not in the journal yet."""
        return not self._knows or bool(self._before) or self._intake.late > 0

    def begin(self) -> None:
        """Before intake runs. When all who held the pipe were killed at once, it lost what was in it."""
        try:
            self._find_out()
            if self._before:
                self._intake.catch_up()
                self._ledger.follow(_ALL, ended=True)  # of half a frame there, the pipe has no rest any more
            while self._before:
                self._intake.put_back(self._lost_by(self._before[0]))
                self._before.pop(0).remove()
        except OSError:  # no descriptor is to be had, or the disk is full: tried again at every look
            pass
        self._kept = {trail.path for trail in self._before}

    def _find_out(self) -> None:
        """First of all: what they wrote is by now in the journal, or in the pipe, or lost."""
        self._before = list(left(self._folder))
        self._before_at = self._end_of_pipe()
        self._knows = True

    def _end_of_pipe(self) -> int:
        return waiting_in(self._pipe) + self._intake.taken  # in this order: never too low

    def _lost_by(self, trail: Left) -> bytes:
        return trail.lost(partial(self._ledger.has, trail.token))

    def look(self) -> None:
        """Who has gone since we hold the pipe has lost nothing of it: the trail goes, once it is in the journal."""
        if not self._knows:
            self._find_out()
            self._kept = {trail.path for trail in self._before}
        if self._before:
            self._try_again()
        if self._passed and self._intake.taken < self._passed_at:
            return
        self._remove()
        self._passed = [trail for trail in left(self._folder) if trail.path not in self._kept]
        self._passed_at = self._end_of_pipe()

    def _try_again(self) -> None:
        if self._intake.taken < self._before_at:
            return
        self._ledger.follow(_ALL)
        while self._before and self._ledger.is_at_end and self._intake.late < _LATE:
            self._intake.put_back_later(self._lost_by(self._before[0]), self._before[0].remove)
            self._before.pop(0)

    def end(self) -> None:
        """When intake has ended, after a last look, and nobody reads the pipe any more."""
        if not waiting_in(self._pipe):
            self._remove()

    def _remove(self) -> None:
        for trail in self._passed:
            trail.remove()
        self._passed = []
