"""SHIPPER - trails of processes that are gone: what the pipe lost is put back into the journal, and the files go."""

from __future__ import annotations

from functools import partial

from .intake import Intake
from .ledger import Ledger
from .trail import Left, left, waiting_in

_ALL = 1_000_000  # stretches of the journal: it is followed to its end


class Recovery:
    """Used by the main thread of the shipper process, which holds the pipe."""

    def __init__(self, folder: str, pipe: int, intake: Intake, ledger: Ledger) -> None:
        self._folder = folder
        self._pipe = pipe
        self._intake = intake
        self._ledger = ledger
        self._kept: set[str] = set()  # of these, what the pipe lost is not in the journal yet
        self._knows = True  # who was gone before we held the pipe
        self._passed: list[Left] = []  # these will go, once intake is past their last frame
        self._passed_at = 0

    def begin(self) -> None:
        """Before intake runs. When all who held the pipe were killed at once, it lost what was in it."""
        # First who is gone: by now all that they wrote is in the journal, or in the pipe, or lost.
        try:
            trails = list(left(self._folder))
        except OSError:  # no descriptor is to be had: they are left to the next process
            self._knows = False
            return
        if not trails:
            return
        try:
            self._intake.catch_up()
            self._ledger.follow(_ALL, ended=True)  # of half a frame there, the pipe has no rest any more
            for trail in trails:
                self._intake.put_back(trail.lost(partial(self._ledger.has, trail.token)))
        except OSError:  # the disk is full: the next process puts it back
            self._kept = {trail.path for trail in trails}
            return
        for trail in trails:
            trail.remove()

    def look(self) -> None:
        """Who has gone since we hold the pipe has lost nothing of it: the trail goes, once it is in the journal."""
        if not self._knows or (self._passed and self._intake.taken < self._passed_at):
            return
        self._remove()
        self._passed = [trail for trail in left(self._folder) if trail.path not in self._kept]
        self._passed_at = waiting_in(self._pipe) + self._intake.taken  # in this order: never too low

    def end(self) -> None:
        """When intake has ended, after a last look, and nobody reads the pipe any more."""
        if not waiting_in(self._pipe):
            self._remove()

    def _remove(self) -> None:
        for trail in self._passed:
            trail.remove()
        self._passed = []
