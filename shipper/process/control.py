"""Obeys commands such as pause and retry, which are written to the file `controls.json` of the spool."""

from __future__ import annotations

import contextlib
import logging

from ..spool.controls import Controls, ControlsReader, restore_controls
from ..spool.layout import Spool
from .deliveries import Deliveries
from .system import log

_log = logging.getLogger(log.NAME)


class Control:
    """Used by the main thread. Commands that were given before the process started apply from its start."""

    def __init__(self, spool: Spool, deliveries: Deliveries) -> None:
        self._spool = spool
        self._deliveries = deliveries
        self._reader = ControlsReader(spool)
        self._done = Controls()
        self.look()

    def look(self) -> None:
        """Pause, resume and retry as the file says, when it has changed; make the file again when it is missing."""
        with contextlib.suppress(OSError):
            restore_controls(self._spool, self._reader.controls)
        if not self._reader.look():
            return
        before, self._done = self._done, self._reader.controls
        self._log_changes(before, self._done)
        self._deliveries.set_paused(self._done.paused)
        for name, asked_at in self._done.retry.items():
            if asked_at != before.retry.get(name):
                self._deliveries.retry_now(name)

    def _log_changes(self, before: Controls, now: Controls) -> None:
        for name in now.paused.keys() - before.paused.keys():
            _log.info("%s is paused", name)
        for name in before.paused.keys() - now.paused.keys():
            _log.info("%s is resumed", name)
