"""SHIPPER - the process: intake, deliverers, drain, exit.

It is started by `supervisor.py` with the queue's reading end and the locked lock file open, and its settings on stdin.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from ..config.settings import Settings
from ..event.redact import Redactor
from ..journal.account import Ledger
from ..journal.cursor import Cursor
from ..journal.writer import Writer, rescue
from ..spool.joined import pending_joins, publish_settings
from ..spool.layout import Spool
from ..spool.lock import LockInfo
from ..transport.overflow import leave, spilt
from ..transport.producer import grow
from . import log
from .intake import Intake
from .recovery import Recovery
from .retention import Retention
from .status_writer import Telling

HAND_OVER = signal.SIGUSR1
TICK = 0.05  # seconds between two looks of the main thread
PAUSE = 0.02  # at least, while nobody flushes
PROMPT = 0.01  # the same while somebody flushes
PARTING = 3.0  # seconds that requests under way get to end

_log = logging.getLogger(log.NAME)


class Shipper:
    """One app's shipper process: starts the parts, watches over them, says how they do, and ends when nobody writes."""

    def __init__(self, settings: Settings, pipe: int, joins: int, note: Note) -> None:
        self._settings = settings
        self._pipe = pipe
        self._joins = joins
        self._note = note
        self._spool = Spool(settings.spool)
        self._terminated = False
        self._handed_over = False
        self._bell = threading.Event()
        self._deliverers: list[Any] = []
        self._threads: list[threading.Thread] = []
        self._ended_at: float | None = None  # since when we are ending without getting on
        self._settled = 0
        self._sampled_at = 0.0
        self._kept_at = 0.0
        self._load: Any = None
        self._context: Any = None
        self._mine = {f"{backend.name}.json" for backend in settings.backends}
        self._overflows = tuple(dict.fromkeys((self._spool.overflow, self._spool.overflow_on_disk)))
        self._ledger = Ledger(self._spool.ledger, self._spool.journal, self._spool.damaged)
        self._cursors = self._open_cursors()
        newest = max([self._ledger.position.segment, *(cursor.position.segment for cursor in self._cursors.values())])
        writer = Writer(self._spool.journal, segment_bytes=settings.spooling.segment, first=newest)
        self._intake = Intake(
            pipe, writer, *self._overflows, fsync=settings.spooling.fsync, grown=self._journal_has_grown
        )
        self._telling = Telling(
            self._spool, settings, self._ledger, self._intake, self._deliverers, overflows=self._overflows
        )
        self._recovery = Recovery(self._spool.overflow, pipe, self._intake, self._ledger)
        self._retention = Retention(
            self._spool, settings.spooling, self._ledger, self._intake, self._deliverers, self._mine
        )

    def _open_cursors(self) -> dict[str, Cursor]:
        return {backend.name: self._cursor(backend) for backend in self._settings.backends}

    def _cursor(self, backend: Any) -> Cursor:
        path = os.path.join(self._spool.cursors, f"{backend.name}.json")
        cursor = Cursor(path, self._spool.journal, level=backend.level)
        if cursor.base < 0:
            self._ledger.follow(1_000_000)
            with contextlib.suppress(OSError):
                cursor.count_from(self._ledger.journaled + self._ledger.doubles)
        return cursor

    # -- signals: they only raise flags, the main thread looks at them ---------------------------------------------

    def _listen(self) -> None:
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(HAND_OVER, self._on_hand_over)
        # Whoever started us may have had them blocked, and that is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, HAND_OVER})

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True

    def _on_hand_over(self, number: int, frame: FrameType | None) -> None:
        self._handed_over = True

    def _journal_has_grown(self) -> None:
        self._bell.set()
        for deliverer in self._deliverers:
            deliverer.wake.set()

    # -- life --------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._listen()
        if not os.path.exists(self._spool.status):
            # While there is room for it: on a full disk only a file that is there can be written over.
            self._telling.tell()
        self._recovery.begin()
        self._start("intake", self._intake.run)
        self._open_backends()
        _log.info("started, pid %d", os.getpid())
        while not self._is_over() or self._take_in_joined():
            self._look_after()
            self._wait()
        self._end()

    def _wait(self) -> None:
        """Until something happens. While nobody flushes, the processor is better left to the deliverers."""
        is_awaited = self._telling.is_awaited
        if not is_awaited:
            time.sleep(PAUSE)
        self._bell.wait(PROMPT if is_awaited else TICK)
        self._bell.clear()

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._or_die(run), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _or_die(self, run: Callable[[], None]) -> Callable[[], None]:
        """A part that fails in a way that nobody foresaw ends the process: the next one goes on from the journal."""

        def guarded() -> None:
            try:
                run()
            except BaseException:
                _log.exception("the shipper process ends because a part of it failed")
                os._exit(70)

        return guarded

    def _open_backends(self) -> None:
        # Only now: intake has been at work while requests, the largest of our imports, was loaded.
        from ..backends.protocol import AppContext
        from .host import Load, address, host

        settings = self._settings
        self._load = self._telling.load = Load()
        mask = Redactor(settings.redact).text
        self._context = AppContext(settings.app, settings.cwd, host(), address(), self._load, mask)
        for description in settings.backends:
            self._open_backend(description)

    def _open_backend(self, description: Any) -> None:
        from ..backends.deprecated import is_http_backend
        from ..backends.http.sender import Sender
        from ..delivery.crash_guard import Encoder, Guarded
        from ..delivery.dead_letters import DeadLetters
        from ..delivery.deliverer import Deliverer

        self._sample()  # the first one tells of the time that these imports took, and not of none
        settings = self._settings
        backend = Sender(description) if is_http_backend(description) else description
        backend.open(self._context)
        notes = os.path.join(self._spool.cursors, f"{backend.name}.encoding")
        deliverer = Deliverer(
            self._cursors[backend.name],
            Guarded(backend, notes) if isinstance(backend, Encoder) else backend,
            DeadLetters(self._spool.dead, backend.name, limit=settings.spooling.dead),
            batching=settings.batching,
            retry=settings.retry,
            settled=self._bell.set,
            # In another process a client may have joined it, whose key is not for the records of this one.
            takes_all=backend.name not in settings.joined,
        )
        self._deliverers.append(deliverer)
        self._start(backend.name, deliverer.run)

    def _take_in_joined(self) -> bool:
        """Deliver to what clients have joined since; whether there was anything. Looked for once more when nobody
        writes any longer: whoever did may have asked, written and ended since the last look."""
        if self._handed_over:  # it is for the next process
            return False
        is_new = False
        for backend in pending_joins(self._joins):
            if f"{backend.name}.json" in self._mine:
                continue
            self._mine.add(f"{backend.name}.json")
            self._settings = self._telling.settings = self._settings.with_joined([backend])
            self._cursors[backend.name] = self._cursor(backend)
            self._open_backend(backend)
            is_new = True
        if is_new:
            self._note.tell(self._settings)
        return is_new

    def _look_after(self) -> None:
        self._take_in_joined()
        self._sample()
        with contextlib.suppress(OSError):
            self._ledger.follow()
            self._account_for_the_dead()
        self._keep_house()
        if not self._recovery.is_pending:  # first the beginning of an event, which may be in a trail, then its rest
            self._intake.adopting.set()
        self._drain_when_alone()
        self._telling.tell()

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled_at >= 1.0:
            self._load.sample(time.time())
            self._sampled_at = now

    def _account_for_the_dead(self) -> None:
        """Note what killed processes dropped, durably, before the file that says so goes."""
        while not self._intake.adopted.empty():
            found = self._intake.adopted.get()
            self._ledger.note_drops(found.name, found.pid, found.drops)
            try:
                self._ledger.save()
            except OSError:
                self._intake.adopted.put(found)
                raise
            found.remove()

    def _keep_house(self) -> None:
        """Once a second: save the ledger, delete segments that everybody has passed, keep the quota."""
        now = time.monotonic()
        if now - self._kept_at < 1.0:
            return
        self._kept_at = now
        with contextlib.suppress(OSError):
            self._ledger.save()
        with contextlib.suppress(OSError):
            self._retention.release()
            self._retention.keep_quota()
        with contextlib.suppress(OSError):
            self._recovery.look()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _drain_when_alone(self) -> None:
        """Nobody writes any more, or we were told to end: deliver what is left, for as long as that gets on."""
        alone = self._intake.eof.is_set()
        ending = alone or self._terminated or self._intake.hung_up.is_set()
        if alone and self._ended_at is None:
            _let_go_of_stderr()
        settled = sum(deliverer.settled_count for deliverer in self._deliverers)
        if not ending:
            self._ended_at = None
        elif self._ended_at is None or settled != self._settled:
            self._ended_at = time.monotonic()
        self._settled = settled
        held_up = bool(self._intake.trouble) or self._recovery.is_pending
        awaited = self._telling.is_awaited
        for deliverer in self._deliverers:
            deliverer.hurry_up(ending, alone=alone, held_up=held_up, awaited=awaited)

    def _is_over(self) -> bool:
        if self._handed_over:
            return True
        if self._ended_at is None:
            return False
        if time.monotonic() - self._ended_at >= self._settings.grace:
            return True
        return self._intake.eof.is_set() and self._is_drained()

    def _is_drained(self) -> bool:
        if self._intake.trouble or not self._intake.adopted.empty():
            return False
        return all(deliverer.drained.is_set() for deliverer in self._deliverers)

    def _end(self) -> None:
        """Deliverers first: while their last requests end, intake still empties the pipe."""
        deadline = time.monotonic() + PARTING
        intake, *deliveries = self._threads
        for deliverer in self._deliverers:
            deliverer.stopping.set()
            deliverer.wake.set()
        for thread in deliveries:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._intake.stopping.set()
        intake.join(PARTING)
        with contextlib.suppress(OSError):
            self._ledger.follow(10_000)
            self._account_for_the_dead()
            self._ledger.save()
            self._retention.release()
        self._telling.tell(last=True)
        if not intake.is_alive():  # what somebody wrote who has come, and gone, since
            with contextlib.suppress(OSError):
                self._recovery.look()
            rescue(self._pipe, self._spool.journal)
            self._leave_the_rest()
            self._recovery.end()
        with contextlib.suppress(OSError):
            os.rmdir(self._spool.overflow_on_disk)
        with contextlib.suppress(OSError):
            os.rmdir(self._spool.overflow)
            os.rmdir(os.path.dirname(self._spool.overflow))
        _log.info("ended")

    def _leave_the_rest(self) -> None:
        """What a full disk did not take has no place but the pipe, which goes with us when nobody else has it open."""
        if not self._intake.hung_up.is_set() or not (rest := self._intake.rest()):
            return
        try:
            leave(self._spool.overflow, rest)
        except OSError as error:
            self._ledger.note_drops(f"{os.urandom(8).hex()}-0", os.getpid(), spilt(rest))
            _log.error("the disk is full, and memory too: what was in the pipe is lost, and counted (%s)", error)
            with contextlib.suppress(OSError):
                self._ledger.save()
            self._telling.tell(last=True)


class Note:
    """What the lock file says of us: our pid, and our settings."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._told = 0

    def tell(self, settings: Settings) -> None:
        file = publish_settings(settings)
        if file and self._told:
            # Under the same number, or who has just read it would open something else.
            os.dup2(file, self._told, inheritable=False)
            os.close(file)
        self._told = self._told or file
        info = LockInfo.read(self._lock)
        info._replace(pid=os.getpid(), digest=settings.digest, settings=self._told).write(self._lock)


def _let_go_of_stderr() -> None:
    """Whoever captured the application's output waits for the end of it, and the application is gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _settings() -> Settings | None:
    """What the starter wrote, or None when it was killed before it could."""
    try:
        # Not up to the end of file: a child that the starter forked at the wrong moment holds the other end too.
        with open(0, "rb", closefd=False) as stdin:
            settings = pickle.load(stdin)
    except (EOFError, pickle.UnpicklingError):
        return None
    except Exception as error:  # a backend's module that can't be imported here
        print(f"shipper: the settings can't be read, events wait in the journal: {error!r}", file=sys.stderr)
        return None
    return settings if isinstance(settings, Settings) else None


def _step_back() -> None:
    """Wake up without interrupting who is at work, the application above all; our share of the processor is the same.

    Halves the 99.9th percentile of a logging call, on a machine with as many busy processes as processors.
    """
    with contextlib.suppress(OSError, AttributeError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(pipe: int, lock: int, joins: int) -> NoReturn:
    """The life of the process, from its settings on stdin to `_exit`."""
    os.umask(0o077)
    os.chdir("/")
    settings = _settings()
    if settings is None:
        rescue(pipe, Spool(sys.argv[-1].split(" ", 2)[-1]).journal)  # nobody else may hold it when we go
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    log.set_up(Spool(settings.spool).log, settings.app)
    grow(pipe)
    note = Note(lock)
    note.tell(settings)
    _step_back()
    sys.setswitchinterval(0.001)  # intake must not wait long for its turn: the pipe holds 1 MiB
    gc.set_threshold(50_000, 20, 100)  # events have no cycles, and looking for some in thousands of them is dear
    code = 0
    try:
        Shipper(settings, pipe, joins, note).run()
    except BaseException:
        _log.exception("the shipper process failed")
        code = 70
    logging.shutdown()
    os._exit(code)
