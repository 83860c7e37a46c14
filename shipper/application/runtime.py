"""APPLICATION - everything that `start` starts in one process, and `stop` ends; a room of its own to load it late."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from ..config.settings import Settings
from ..errors import ConfigurationError
from ..journal.cursor_files import begin_cursor, saved_positions
from ..journal.segments import segments
from ..spool.files import get_dict, get_int, read_json
from ..spool.layout import Spool
from ..spool.lock import claim
from ..transport.producer import Producer
from .handler import Pipeline, QueueHandler
from .supervisor import Supervisor

if TYPE_CHECKING:
    from ..report import Report, Status

LOOK = 0.005  # seconds between two looks at status.json during a flush
MENDING = 1.5  # seconds that a Python that is missing has to be back: the process is tried once more meanwhile


class App:
    """Everything that `start` starts in one process, and `stop` ends in the same process or in a forked child.

    ``asked`` is what `start` was called with, to know the same call when it comes again.
    """

    def __init__(self, settings: Settings, pipeline: Pipeline, spool: Spool, asked: object) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.spool = spool
        self.asked = asked
        self._since = time.time()
        self.supervisor = Supervisor(settings, since=self._since)
        self._attached: tuple[logging.Logger, logging.Handler, tuple[int, int] | None] | None = None

    @property
    def queue(self) -> Producer:
        return self.pipeline.queue

    def watch_in_child(self) -> None:
        """In a forked child, which has none of its parent's threads."""
        self.supervisor = Supervisor(self.settings, since=self._since)
        self.supervisor.watch()

    def attach(self, logger: logging.Logger, before: App | None = None) -> None:
        """Ship what reaches `logger`. Where logging was never configured, let through what the backends want.

        ``before`` is the app in whose place this one comes: it is detached, with no moment in which neither ships.
        """
        silent = logger.getEffectiveLevel() == logging.WARNING and logger.level in (logging.WARNING, logging.NOTSET)
        unconfigured = silent and not logger.hasHandlers()
        usual = before.yield_level(logger) if before is not None else None
        if usual is None and unconfigured:
            usual = logger.level
        own = (backend for backend in self.settings.backends if backend.name in self.pipeline.names)
        wanted = min(max(self.settings.level, backend.level) for backend in own)
        changed = None
        if usual is not None and (usual or logging.WARNING) > wanted:
            changed = (usual, wanted)
            logger.setLevel(wanted)
        handler = QueueHandler(level=self.settings.level)
        logger.addHandler(handler)
        self._attached = (logger, handler, changed)
        if before is not None:
            before.detach()

    def attach_like(self, before: App) -> None:
        if before._attached is not None:
            self.attach(before._attached[0], before)

    def yield_level(self, logger: logging.Logger) -> int | None:
        """The level that `detach` would give back to `logger`, and now won't; None when it would do nothing."""
        if self._attached is None or self._attached[0] is not logger:
            return None
        _, handler, changed = self._attached
        self._attached = (logger, handler, None)
        return changed[0] if changed is not None and logger.level == changed[1] else None

    def detach(self) -> None:
        if self._attached is None:
            return
        logger, handler, changed = self._attached
        logger.removeHandler(handler)
        handler.close()
        if changed is not None and logger.level == changed[1]:  # nobody has set another one since
            logger.setLevel(changed[0])
        self._attached = None

    def flush(self, deadline: float, *, delivered: bool = True) -> bool:
        """Wait until what was put so far is settled at every backend, or only journaled; False at the deadline, and
        soon when there is no Python to run the process with."""
        give_up_at = time.monotonic() + MENDING
        if not self.queue.drain(deadline):
            return False
        number = self._mark(deadline)
        if number is None:
            return False
        token = self.queue.token.hex()
        pause = threading.Event()
        while not self._is_past(token, number, delivered):
            left = deadline - time.monotonic()
            if left <= 0 or (self.supervisor.has_no_python and time.monotonic() >= give_up_at):
                return False
            pause.wait(min(LOOK, left))
        return True

    def _mark(self, deadline: float) -> int | None:
        while True:
            with contextlib.suppress(queue.Full):
                return self.queue.mark()
            if not self.queue.drain(deadline) or time.monotonic() >= deadline:
                return None

    def _is_past(self, token: str, number: int, delivered: bool) -> bool:
        said = read_json(self.spool.status) or {}
        with contextlib.suppress(LookupError, TypeError, ValueError):  # damaged, and soon written anew
            reached, *place = get_dict(said, "marks")[token]
            if reached < number:
                return False
            backends = get_dict(said, "backends")
            return not delivered or all(backends[each.name]["position"] >= place for each in self.settings.backends)
        return False

    def status(self) -> Status:
        from ..report import read_status  # only those who ask need it

        return read_status(self.spool, self.settings.app)

    def _report(self, flushed: bool) -> Report:
        from ..report import Report, read_status, total

        emitted, dropped = self.queue.emitted, self.queue.drops
        said = read_json(self.spool.status) or {}
        journaled = get_int(get_dict(get_dict(said, "ledger"), "seen"), self.queue.token.hex())
        waiting = 0 if flushed else max(0, emitted - total(dropped) - journaled)
        # One reading of the file for both, or an event that is journaled in between counts twice, or not at all.
        status = read_status(self.spool, self.settings.app, said)
        return Report(flushed=flushed, emitted=emitted, dropped=dropped, status=status, waiting=waiting)

    def stop(self, timeout: float) -> Report:
        """Detach first, so that nothing new comes; flush; say how it went; close last, for then the process may end."""
        deadline = time.monotonic() + timeout
        self.detach()
        flushed = self.flush(deadline)
        if not flushed:
            self.supervisor.rescue()
        report = self._report(flushed)
        self.supervisor.stop()
        self.queue.close()
        return report


def claimed(settings: Settings) -> Spool:
    """The app's spool. One that was named after its program takes a lane of its own in a spool that has an owner."""
    place = Spool(settings.spool)
    place.prepare()
    try:
        claim(place, settings.app)
    except ConfigurationError:
        if settings.is_named:
            raise
        place = Spool(os.path.join(settings.spool, settings.app))
        place.prepare()
        claim(place, settings.app)
    return place


def begin_cursors(settings: Settings, place: Spool) -> None:
    """Places in the journal for backends that have none: behind what is there, which is not for them.

    One whose place was lost gets none here: its process then begins with all that is left in the journal.
    """
    try:
        known = saved_positions(place.cursors)
        if not known and segments(place.journal):
            return
        said = (read_json(place.status) or {}).get("backends")
        lost = said if isinstance(said, dict) else {}
        for backend in settings.backends:
            if backend.name not in lost:
                begin_cursor(os.path.join(place.cursors, f"{backend.name}.json"), place.journal)
    except OSError as error:
        raise ConfigurationError("spool", place.path, f"a folder that this user can write to ({error})") from error
