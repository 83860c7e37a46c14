"""Makes sure that one shipper process runs: the application process that gets the spool's lock starts the next one.

The shipper process holds the lock as long as it runs, so a lock that can be taken means that none runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable

from ..._support import unpatched
from ...config.settings import Settings
from ...journal.pipe_content import move_to_journal, save_all
from ...spool import host
from ...spool.files import open_file, reclaim_file
from ...spool.joined import read_settings, request_join
from ...spool.kernel import boot_id, namespace
from ...spool.layout import Spool
from ...spool.lock import LockInfo, open_journal, read_pid, running, try_lock
from ...spool.numbers import close_high, open_high
from ...spool.owner import make_folders
from ...transport.frame import MAX_FRAME
from ..stderr import warn_on_stderr
from .exit_watcher import ProcessExitWatcher
from .launcher import Launcher, is_shipper_process, reap_adopted

QUICK_EXIT_SECONDS = 1.0  # a process that lived shorter than this failed at its start
CRASH_LOOP_STARTS = 20  # so many of them in a row are a crash loop ...
CRASH_LOOP_PAUSE_SECONDS = 10.0  # ... in which this is the pause between two starts
RESTORE_SECONDS = 5.0  # that a shipper process has to make removed files of its spool again
STOP_SECONDS = 2.0  # that `stop` waits for the supervising thread to end


class Supervisor:
    """Starts the shipper process, and again whenever it ends. Belongs to one process; a forked child needs its own."""

    def __init__(self, settings: Settings, *, since: float = 0.0, maintain: Callable[[], None] = lambda: None) -> None:
        """`maintain` is called about once a second, by the watching thread."""
        self._maintain = maintain
        self._spool = Spool(settings.spool)
        self._use(settings, since)
        self._launcher = Launcher(self._spool)
        self._stopping = threading.Event()
        self._exit_watcher = ProcessExitWatcher()
        self._id = self._spool.read_id()
        self._pid = 0  # of the shipper process that was last seen
        self._seen_at = 0.0
        self._finished = threading.Event()
        self._finished.set()
        self._failed_starts = 0  # in a row: no process could be started
        self._retry_at = 0.0  # time.monotonic() of the next attempt

    def _use(self, settings: Settings, since: float) -> None:
        self._settings = settings
        self._since = since  # when start() was called with these settings: the latest call in any process wins
        self._payload = settings.for_process()
        self._digest = settings.digest

    @property
    def has_no_python(self) -> bool:
        """Whether the process could not be started because there was no interpreter."""
        return self._launcher.has_no_python

    def begin(self) -> None:
        """Start the process unless it runs, replace it if its settings are older, and supervise it from now on."""
        self.replace_outdated()
        self.start_if_none_runs()
        self.watch()

    def watch(self) -> None:
        """Supervise the process in a thread, unless one does already, or uWSGI is going to fork this process."""
        if not self._finished.is_set() or unpatched.is_fork_pending():
            return
        self._finished.clear()
        try:
            unpatched.start_thread(self._watch, "shipper-supervisor")
        except RuntimeError as error:  # no thread left: other processes of the app, or the next start, supervise it
            self._finished.set()
            warn_on_stderr("this process does not supervise the shipper process", str(error))

    def stop(self) -> None:
        """Stop supervising; the process runs until no writer is left. Idempotent."""
        self._stopping.set()
        self._exit_watcher.wake()
        if self._finished.wait(STOP_SECONDS):
            self._exit_watcher.close()
        self._launcher.reap(wait=True)

    def reap(self) -> None:
        """Collect the exit statuses of the processes that `start_if_none_runs` started; each forks and ends."""
        self._launcher.reap(wait=True)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self._look_after_process()
            except Exception as error:  # such as an ImportError, when Python's own modules were removed from the disk
                warn_on_stderr("supervising the shipper process failed, and is tried again", repr(error))
            pid = read_pid(self._spool)
            if pid:
                self._pid, self._seen_at = pid, time.monotonic()
            self._exit_watcher.wait_for_exit(pid)
            reap_adopted(pid)
        self._finished.set()

    def _look_after_process(self) -> None:
        self._launcher.reap()
        self._maintain()  # first: it keeps the queue open, and a shipper process without a writer ends
        if not self._spool.is_usable:  # `maintain` has warned; other processes of the app supervise
            return
        self.start_if_none_runs()
        self.replace_outdated()  # again: another process may have started one with settings older than ours

    # -- starting ------------------------------------------------------------------------------------------------------

    def start_if_none_runs(self) -> None:
        """Take the lock if it is free, and hand it to a new process."""
        try:
            make_folders(self._spool.path)
            lock = reclaim_file(self._spool.lock, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            _warn_not_started(error)
            return
        _open_locks.add(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._refuse_second_process(lock)
            self._spool.prepare()  # a cleaner may have removed more than the lock file
            if self._id:
                self._spool.write_id(self._id)
            if not host.keep(self._spool):
                warn_on_stderr("the spool is in use on another host; events wait in memory", self._spool.path)
            elif self._may_start(lock):
                self._launch(lock)
        except BlockingIOError:  # a process runs
            self._launcher.has_no_python = False
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: the interpreter is ending
            _warn_not_started(error)
        finally:
            _open_locks.discard(lock)
            close_high(lock)

    def _refuse_second_process(self, lock: int) -> None:
        """Raise BlockingIOError when a process works on the journal although a cleaner has removed its lock file.

        When the journal was removed too, that process makes both again, and has `RESTORE_SECONDS` (5) to do so.
        """
        journal = open_journal(self._spool)
        if journal >= 0:
            _open_locks.add(journal)
            try:
                try_lock(journal)
            finally:
                _open_locks.discard(journal)
                close_high(journal)
        is_new = not LockInfo.read(lock).started
        if is_new and is_shipper_process(self._pid) and time.monotonic() - self._seen_at < RESTORE_SECONDS:
            raise BlockingIOError

    def _may_start(self, lock: int) -> bool:
        """Note a start in the lock file; False, and nothing noted, during the pause after starts that failed."""
        if time.monotonic() < self._retry_at:
            return False
        last = LockInfo.read(lock)
        reap_adopted(last.pid)
        age = time.time() - last.started
        is_recent = 0.0 <= age < CRASH_LOOP_PAUSE_SECONDS
        quick = last.quick if is_recent else 0
        if is_recent and age < restart_pause(quick):
            return False
        is_quick = 0.0 <= age < QUICK_EXIT_SECONDS or (is_recent and quick >= CRASH_LOOP_STARTS)
        quick = quick + 1 if is_quick else 0
        info = LockInfo(started=time.time(), digest=self._digest, since=self._since, quick=quick)
        info._replace(boot=boot_id(), pids=namespace("pid"), spool_id=self._id).write(lock)
        return True

    def _launch(self, lock: int) -> None:
        pipe = self._open_pipe()
        try:
            # Before the launch: if the whole application and the new process are killed, the pipe's content is lost.
            move_to_journal(self._spool, pipe, limit=self._settings.spooling.quota)
            self._launcher.launch(self._settings, self._payload, pipe, lock)
        except OSError:  # no process was started, so none has crashed
            LockInfo.read(lock)._replace(quick=0).write(lock)
            self._failed_starts += 1
            self._retry_at = time.monotonic() + restart_pause(self._failed_starts)
            raise
        finally:
            close_high(pipe)
        self._failed_starts = 0

    def _open_pipe(self) -> int:
        return open_high(self._spool.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)

    # -- the pipe's content --------------------------------------------------------------------------------------------

    def drain_pipe(self) -> bool:
        """Move the pipe's content to the journal if no shipper process runs: it is lost with the pipe's last process.

        False when a shipper process runs, which reads the pipe, when another host uses the spool, or on errors.
        """
        if not self._spool.is_usable:
            return False
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            lock = open_file(self._spool.lock, os.O_RDWR | os.O_CREAT)
            opened.callback(close_high, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._refuse_second_process(lock)
            if not host.keep(self._spool):
                return False
            pipe = self._open_pipe()
            opened.callback(close_high, pipe)
            spooling = self._settings.spooling
            save_all(self._spool, pipe, limit=spooling.quota + spooling.segment - MAX_FRAME)
            return True
        return False

    # -- settings ------------------------------------------------------------------------------------------------------

    def replace_outdated(self) -> None:
        """Ask a process that runs with older settings to hand over; its journal and its joined backends stay.

        A process that lacks only backends that clients of this process have joined is asked to add them.
        """
        holder = running(self._spool)
        if holder is None or holder.digest == self._digest:
            return
        theirs = read_settings(holder)
        self._request_missing(theirs)
        is_older = holder.since <= self._since
        replaces = is_older and (theirs is None or theirs.base_digest != self._settings.base_digest)
        if theirs is not None:
            newer, older = (self._settings, theirs) if is_older else (theirs, self._settings)
            self._use(newer.merge_joined(older), max(holder.since, self._since))
        if replaces and holder.is_visible() and is_shipper_process(holder.pid):
            with contextlib.suppress(OSError):
                os.kill(holder.pid, signal.SIGUSR1)

    def _request_missing(self, theirs: Settings | None) -> None:
        known = () if theirs is None else [each.name for each in theirs.backends]
        missing = [each for each in self._settings.joined_backends if each.name not in known]
        if missing:
            request_join(self._spool.joins, missing)


def restart_pause(quick: int) -> float:
    """Seconds between two starts after `quick` processes in a row that ended within `QUICK_EXIT_SECONDS`."""
    if quick >= CRASH_LOOP_STARTS:
        return CRASH_LOOP_PAUSE_SECONDS
    return min(0.05 * 2.0**quick, QUICK_EXIT_SECONDS) if quick else 0.0


def _warn_not_started(error: Exception) -> None:
    warn_on_stderr("the shipper process can't be started; events wait in memory", str(error))


_open_locks: set[int] = set()  # descriptors of lock files that are open at this moment


def _after_fork_in_child() -> None:
    # An inherited descriptor would keep the lock after the process that took it has ended.
    for lock in list(_open_locks):
        with contextlib.suppress(OSError):
            close_high(lock)
    _open_locks.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
