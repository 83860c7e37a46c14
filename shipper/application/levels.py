"""Levels that `shipper level` sets in a running app, for a while: of loggers, and of our handlers.

A process looks at the spool's controls about once a second, in its supervising thread; a logging call costs nothing
more. A level goes back to what it was when its time is over, or when the app stops; one that the application has
changed meanwhile is what it goes back to. A forked child goes on with what its parent had set.
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
    """Of one process, and of its forked children. Two threads may call `look` at the same time."""

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
        """Put all levels back, and set none any more."""
        self._has_ended = True
        self._apply()

    def _apply(self) -> None:
        wanted = {} if self._has_ended else self._reader.controls.levels_at(self._wall_clock())
        targets = {target: level for name, level in wanted.items() for target in _targets(name)}
        for target, level in targets.items():
            found = target.level  # before the look at what we know: another thread may set the level at any moment
            usual, ours = self._replaced.get(target, (found, found))
            self._replaced[target] = (usual if found in (ours, level) else found, level)
            if found != level:
                target.setLevel(level)
        for target in [each for each in list(self._replaced) if each not in targets]:
            usual, ours = self._replaced.pop(target, (0, -1))  # -1: another thread has put it back
            if target.level == ours:
                target.setLevel(usual)
        if targets and self._has_ended:  # by another thread, meanwhile
            self._apply()


def _targets(name: str) -> Iterator[Target]:
    """The logger of that name; for "" the handlers of this package, but those of access logs."""
    if name:
        yield logging.getLogger(None if name == "root" else name)
        return
    known = logging.root.manager.loggerDict
    loggers = [logging.root, *(each for each in list(known.values()) if isinstance(each, logging.Logger))]
    for logger in loggers:
        if logger.name not in ACCESS:
            yield from (handler for handler in logger.handlers if type(handler) is QueueHandler)
