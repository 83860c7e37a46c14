"""App: everything that `start` starts in one process and `stop` ends. Imported by `start`, not by `import shipper`."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.settings import Settings
from ..errors import ConfigurationError
from ..journal.cursors.cursor_files import begin_cursor, saved_positions
from ..journal.segments import segments
from ..report import Report, Status, read_status, total
from ..spool.detached import clear_detached, note_detached
from ..spool.files import get_dict, get_int, read_json
from ..spool.host import lane_of_this_host
from ..spool.joined import announce_flush
from ..spool.layout import Spool
from ..spool.lock import claim
from ..transport.producer import Producer
from .attachment import Attachment
from .capture.pipeline import Pipeline
from .derived_name import adopt_earlier
from .levels import Levels
from .server_loggers import ServerLoggers
from .stderr import warn_on_stderr, warn_once_on_stderr
from .supervision.flush_wait import FlushWait
from .supervision.supervisor import Supervisor

NO_PYTHON_SECONDS = 1.5  # that a flush waits for a missing interpreter to be there again: starts are retried meanwhile

READ_SECONDS = 1.0  # that `stop` waits for the shipper process to read the pipe, where the spool can't be used


class App:
    """One app in one process. A forked child inherits it, and may stop it.

    ``request`` is what `start` was called with; a later call with the same changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        spool: Spool,
        request: object,
        *,
        keep_attached: bool = False,
        server_loggers: ServerLoggers | None = None,
        levels: Levels | None = None,
    ) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.spool = spool
        self.request = request
        self._since = time.time()
        self.keep_attached = keep_attached
        self.server_loggers = server_loggers
        self.levels = levels or Levels(spool)
        self._attachment: Attachment | None = None
        self._is_noted = False
        self._dead_before = _dead_letters(read_json(spool.status) or {})
        self.is_ending = False
        """Whether the interpreter is ending: no thread can be started."""
        self.is_inherited = False
        """Whether this process is a forked child, and its parent started the app."""
        self.supervisor = Supervisor(settings, since=self._since, maintain=self._maintain)

    @property
    def queue(self) -> Producer:
        return self.pipeline.queue

    def watch_in_child(self) -> None:
        """Supervise in a forked child, which has none of its parent's threads."""
        self.is_inherited = True
        self.supervisor = Supervisor(self.settings, since=self._since, maintain=self._maintain)
        self.supervisor.watch()

    def _can_use_spool(self) -> bool:
        """Whether this process still may use its spool; warn if it may not."""
        if self.spool.is_usable:
            return True
        if self.spool.is_in_other_root:
            what = f"this process no longer sees the spool {self.spool.path}: it has changed its root"
            remedy = "or start shipper in a parent process that keeps its root"
        else:
            user = f"this process (uid {os.geteuid()})"
            what = f"{user} may no longer use the spool {self.spool.path}: it has changed its user"
            remedy = "or give it owner= and spool=: the user to come, and a folder for it"
        warn_once_on_stderr(
            f"{what} since shipper.start(). Its events are shipped while the queue has space, and are dropped when it "
            f"is full; nothing can be waited for. Call shipper.start() after the change, {remedy}"
        )
        return False

    def _maintain(self) -> None:
        self._can_use_spool()
        self.queue.maintain()
        self.check_attachment()
        self.levels.look()

    def attach(self, logger: logging.Logger, before: App | None = None) -> None:
        """Attach a handler to `logger`, and to loggers of servers, in place of those of the app `before`."""
        own = (backend for backend in self.settings.backends if backend.name in self.pipeline.names)
        wanted = min(max(self.settings.level, backend.level) for backend in own)
        replaced = before._attachment if before is not None else None
        self._attachment = Attachment(
            logger,
            level=self.settings.level,
            wanted=wanted,
            before=replaced,
            keep=self.keep_attached,
            on_close=self._on_handler_closed,
        )
        if before is not None and before.server_loggers not in (None, self.server_loggers):
            before.server_loggers.detach()
        if self.server_loggers is not None:
            self.server_loggers.attach()

    def _on_handler_closed(self) -> None:
        # A forked child begins to check its handler at its first record: without a handler that would never come.
        if not self.is_ending:
            self.queue.ensure_current_process()

    def attach_again(self) -> None:
        """Attach the handler again if other code has removed it."""
        attachment = self._attachment
        if attachment is not None and not attachment.is_effective:
            self.check_attachment()
            self.attach(attachment.logger, self)
            self._clear_note()

    @property
    def is_attached(self) -> bool | None:
        """Whether records of the logger that `start` attached a handler to are shipped; None if it attached none."""
        attachment = self._attachment
        return None if attachment is None else attachment.is_effective

    def check_attachment(self) -> None:
        """Warn if other code has removed the handler, note it for `shipper status`; attach to new server loggers."""
        attachment = self._attachment
        if attachment is None:
            return
        if self.server_loggers is not None:
            self.server_loggers.attach()
        if attachment.check():
            note_detached(self.spool, attachment.logger.name)
            self._is_noted = True
        elif self._is_noted and attachment.is_effective:
            self._clear_note()

    def _clear_note(self) -> None:
        if self._is_noted:
            clear_detached(self.spool)
        self._is_noted = False

    def attach_like(self, before: App) -> None:
        """Attach to the logger that `before` is attached to, if any."""
        if before._attachment is not None:
            self.attach(before._attachment.logger, before)

    def detach(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.detach()
        if self.server_loggers is not None:
            self.server_loggers.detach()
        self._clear_note()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def flush(self, deadline: float, *, delivered: bool = True) -> bool:
        """Wait until what was queued so far is settled at every backend, or only journaled if not ``delivered``.

        False at the deadline (time.monotonic()); after `NO_PYTHON_SECONDS` without a Python to run the shipper process;
        at once if this process may no longer use the spool; and, once the other backends are done, if one is paused.
        """
        no_python_deadline = time.monotonic() + NO_PYTHON_SECONDS
        if not self._can_use_spool() or not self.queue.drain(deadline):
            return False
        number = self._mark(deadline)
        if number is None:
            return False
        announce_flush(self.spool.joins)
        with contextlib.closing(FlushWait(self.spool, self._names(), self.queue.token, number, delivered)) as waiting:
            for pause in waiting.pauses():
                left = deadline - time.monotonic()
                if left <= 0 or (self.supervisor.has_no_python and time.monotonic() >= no_python_deadline):
                    return False
                threading.Event().wait(min(pause, left))
            return not _warn_paused(waiting.paused)

    def _names(self) -> list[str]:
        return [backend.name for backend in self.settings.backends]

    def _mark(self, deadline: float) -> int | None:
        while True:
            with contextlib.suppress(queue.Full):
                return self.queue.mark()
            if not self.queue.drain(deadline) or time.monotonic() >= deadline:
                return None

    # -- the end -------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        return dataclasses.replace(read_status(self.spool, self.settings.app), attached=self.is_attached)

    def _report(self, flushed: bool, attached: bool | None, deadline: float) -> Report:
        # Without the spool, an empty pipe says that everything is in the journal.
        is_journaled = flushed or (not self.spool.is_usable and self.queue.wait_until_read(deadline))
        emitted, dropped = self.queue.emitted, self.queue.drops
        # Read once for `waiting` and `status`: else an event journaled in between would count twice, or not at all.
        content = read_json(self.spool.status) or {}
        journaled = get_int(get_dict(get_dict(content, "ledger"), "seen"), self.queue.token.hex())
        waiting = 0 if is_journaled else max(0, emitted - total(dropped) - journaled)
        status = dataclasses.replace(read_status(self.spool, self.settings.app, content), attached=attached)
        dead = {name: count - self._dead_before.get(name, 0) for name, count in _dead_letters(content).items()}
        return Report(
            flushed=flushed,
            emitted=emitted,
            dropped=dropped,
            status=status,
            waiting=waiting,
            attached=attached,
            dead={name: count for name, count in dead.items() if count > 0},
        )

    def stop(self, timeout: float) -> Report:
        """Detach, so that nothing new comes; flush; report; close the queue last: then the shipper process may end."""
        deadline = time.monotonic() + timeout
        self.check_attachment()
        attached = self.is_attached
        self.levels.end()
        self.detach()
        flushed = self.flush(deadline)
        if not flushed:
            self.supervisor.drain_pipe()
        report = self._report(flushed, attached, min(deadline, time.monotonic() + READ_SECONDS))
        self.supervisor.stop()
        self.queue.close()
        return report


def _warn_paused(names: Sequence[str]) -> bool:
    """Warn that a flush has not waited for these backends; whether there are any."""
    for name in names:
        warn_on_stderr(f"{name} is paused: its events wait in the journal until `shipper resume {name}`")
    return bool(names)


def _dead_letters(status: Mapping[str, Any]) -> dict[str, int]:
    """Backend's name → number of its dead letters, from the content of a status file."""
    backends = get_dict(status, "backends")
    return {name: get_int(get_dict(get_dict(backends, name), "counts"), "dead") for name in backends}


def claim_spool(settings: Settings) -> Spool:
    """Prepare the app's spool, or this host's lane in it. If another app has it, an unnamed app gets a subfolder."""
    adopt_earlier(settings)
    try:
        return _claim_on_this_host(Spool(settings.spool), settings.app)
    except ConfigurationError:
        if settings.is_named:
            raise
        return _claim_on_this_host(Spool(os.path.join(settings.spool, settings.app)), settings.app)


def _claim_on_this_host(spool: Spool, app: str) -> Spool:
    spool.prepare()
    claim(spool, app)
    lane = lane_of_this_host(spool)
    claim(lane, app)
    return lane


def begin_cursors(settings: Settings, spool: Spool) -> None:
    """Give new backends a cursor at the journal's present end: they do not get earlier events.

    A backend whose cursor was lost gets none here: for it the shipper process begins with the oldest segment left.
    """
    try:
        known = saved_positions(spool.cursors)
        if not known and segments(spool.journal):
            return
        lost = get_dict(read_json(spool.status) or {}, "backends")
        for backend in settings.backends:
            if backend.name not in lost:
                begin_cursor(os.path.join(spool.cursors, f"{backend.name}.json"), spool.journal)
    except OSError as error:
        raise ConfigurationError("spool", spool.path, f"a folder that this user can write to ({error})") from error
