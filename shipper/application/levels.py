"""Levels of loggers and of this package's handlers that `shipper level` sets in a running app, for a while.

A process looks at the spool's controls about once a second, in its supervising thread; logging calls do not become
slower. When its time is over, or the app stops, a level is put back to what it was. If the application sets a level
meanwhile, that level is overwritten, and put back at the end. A forked child keeps what its parent had set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from ..spool.controls import ControlsReader
from ..spool.layout import Spool
from .capture.handler import QueueHandler
from .server_loggers import ACCESS

Target = logging.Logger | logging.Handler


class Levels:
    """The levels of one process and its forked children. Two threads may call `look` at the same time."""

    def __init__(self, spool: Spool, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._reader = ControlsReader(spool)
        self._wall_clock = wall_clock
        self._replaced: dict[Target, tuple[int, int]] = {}  # the level to go back to, and the one that was set
        self._has_ended = False

    def look(self) -> None:
        """Set the levels that are in force now, and put back those that no longer are."""
        self._reader.look()
        if self._replaced or self._reader.controls.levels:
            self._apply()

    def end(self) -> None:
        """Put all levels back, and set none from now on."""
        self._has_ended = True
        self._apply()

    def _apply(self) -> None:
        wanted = {} if self._has_ended else self._reader.controls.levels_at(self._wall_clock())
        targets = {target: level for name, level in wanted.items() for target in _targets(name)}
        for target, level in targets.items():
            found = target.level  # read before `_replaced`: another thread may set the level at any moment
            usual, ours = self._replaced.get(target, (found, found))
            self._replaced[target] = (usual if found in (ours, level) else found, level)
            if found != level:
                target.setLevel(level)
        for target in [each for each in list(self._replaced) if each not in targets]:
            usual, ours = self._replaced.pop(target, (0, -1))  # -1: another thread has put it back
            if target.level == ours:
                target.setLevel(usual)
        if targets and self._has_ended:  # `end` was called by another thread, meanwhile
            self._apply()


def _targets(name: str) -> Iterator[Target]:
    """Yield the logger of that name; for "" this package's handlers, except those on loggers of access logs."""
    if name:
        yield logging.getLogger(None if name == "root" else name)
        return
    known = logging.root.manager.loggerDict
    loggers = [logging.root, *(each for each in list(known.values()) if isinstance(each, logging.Logger))]
    for logger in loggers:
        if logger.name not in ACCESS:
            yield from (handler for handler in logger.handlers if type(handler) is QueueHandler)
