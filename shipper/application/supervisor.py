"""APPLICATION - sees to it that one shipper process runs: whoever gets its lock starts the next one.

The lock travels to the process open and locked, together with the queue's reading end: there is no moment in which
nobody holds either.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from .._support import unpatched
from ..config.settings import Settings
from ..journal.cursor_files import saved_positions
from ..journal.segments import size_on_disk
from ..spool.files import get_int, open_file, read_json, reclaim_file
from ..spool.joined import close_joins, open_joins, read_settings, request_join
from ..spool.layout import Spool
from ..spool.lock import LockInfo, read_pid, running
from ..transport.pipe import PIPE_BYTES
from .handler import warn_on_stderr

if TYPE_CHECKING:
    import subprocess

TITLE = "shipper: "  # in `ps`, before the app's name and its spool
LOOK = 1.0  # seconds between two looks at a process whose end would be told
REAPING = 2.0  # seconds that the process we started has to fork and end
SOON = 0.05  # ... and at one that is just starting, or can't be watched
PATIENCE = 1.0  # seconds at most before a process that ended soon is started again ...
LOOPING = 20  # ... and after so many in a row
LONG_PATIENCE = 10.0  # ... this many seconds

_NO_PROGRAM = (errno.ENOENT, errno.ENOEXEC, errno.EACCES, errno.ENOTDIR)  # that waiting does not mend

# The first line of the process: out of the starter's family at once, so that it is nobody's child and nobody's zombie.
BOOTSTRAP = (
    "import os,sys\n"
    "os.fork() and os._exit(0)\n"
    "sys.path[:]={path!r}\n"
    "from shipper.process.main import main\n"
    "main({pipe},{lock},{joins})"
)


def interpreter(wanted: str) -> str:
    """The Python to run the process with: the setting, else this one, else one beside it (this one may be uWSGI)."""
    if wanted:
        return wanted
    name = os.path.basename(sys.executable or "")
    if name.startswith(("python", "pypy")):
        return sys.executable
    for folder in (os.path.join(sys.prefix, "bin"), os.path.join(sys.exec_prefix, "bin")):
        for each in (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python"):
            if os.access(os.path.join(folder, each), os.X_OK):
                return os.path.join(folder, each)
    import shutil  # seldom comes to that

    return shutil.which("python3") or sys.executable


class ProcessExitWatcher:
    """Waits for the end of a process that need not be a child; `ring` ends the wait."""

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._bell = _eventfd()

    def wait_for_end_of(self, pid: int) -> None:
        """Return when the process ends, at once when there is none, when rung, and after a while all the same."""
        if self._bell < 0:
            self._rung.wait(SOON)
            return
        poller = unpatched.original("select", "poll")()
        poller.register(self._bell, select.POLLIN)
        process = _pidfd(pid)
        if process >= 0:
            poller.register(process, select.POLLIN)
        poller.poll((SOON if process < 0 else LOOK) * 1000)
        if process >= 0:
            os.close(process)

    def ring(self) -> None:
        self._rung.set()
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        if self._bell >= 0:
            os.close(self._bell)
        self._bell = -1


def _eventfd() -> int:
    try:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    except (OSError, AttributeError):  # no descriptor left: it looks again and again instead
        return -1


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid) if pid > 0 else -1
    except (OSError, AttributeError):
        return -1


class Supervisor:
    """Starts the shipper process, and starts it again. Belongs to one process; a forked child needs its own."""

    def __init__(self, settings: Settings, *, since: float = 0.0) -> None:
        self._spool = Spool(settings.spool)
        self._take(settings, since)
        self._stopping = threading.Event()
        self._alarm = ProcessExitWatcher()
        self._finished = threading.Event()
        self._finished.set()
        self._started: list[subprocess.Popen[bytes]] = []
        self.has_no_python = False  # to run the process with, when it was last tried

    def _take(self, settings: Settings, since: float) -> None:
        self._settings = settings
        self._since = since  # when start() was called with these settings: the latest of an app's processes wins
        self._payload = settings.for_process()
        self._digest = settings.digest

    def begin(self) -> None:
        """Start the process unless it runs, replace it if its settings are others, and keep watch from now on."""
        self.replace_outdated()
        self._look()
        self.watch()

    def watch(self) -> None:
        self._finished.clear()
        try:
            unpatched.start_thread(self._watch, "shipper-supervisor")
        except RuntimeError as error:  # no thread left: other processes of the app, or the next start, do it
            self._finished.set()
            warn_on_stderr("the shipper process is not watched over by this process", str(error))

    def stop(self) -> None:
        """Stop watching; the process goes on until nobody writes any more. May be called twice."""
        self._stopping.set()
        self._alarm.ring()
        if self._finished.wait(2.0):
            self._alarm.close()
        self._reap(wait=True)

    def rescue(self) -> bool:
        """When no process runs, put what is in the pipe into the journal ourselves: it does not outlive us elsewhere.
        False when one runs, which then has the pipe, or when it can't be done."""
        from ..journal.writer import rescue  # seldom comes to that

        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            lock = open_file(self._spool.lock, os.O_RDWR | os.O_CREAT)
            opened.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pipe = os.open(self._spool.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            opened.callback(os.close, pipe)
            rescue(pipe, self._spool.journal, first=self._newest())
            return True
        return False

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._reap()
            self._look()
            self.replace_outdated()  # again: another process may have started one, with settings from before
            self._alarm.wait_for_end_of(read_pid(self._spool))
        self._finished.set()

    def _look(self) -> None:
        """Take the lock if it is free, and hand it to a new process."""
        try:
            lock = reclaim_file(self._spool.lock, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            self._complain(error)
            return
        _locks.add(lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._may_start(lock):
                self._launch(lock)
        except BlockingIOError:  # it runs
            self.has_no_python = False
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: the interpreter is ending
            self._complain(error)
        finally:
            _locks.discard(lock)
            os.close(lock)

    def _may_start(self, lock: int) -> bool:
        """Not at once, when those before it ended soon after they began. Notes the start in the lock file."""
        last = LockInfo.read(lock)
        age = time.time() - last.started
        soon = 0.0 <= age < LONG_PATIENCE
        quick = last.quick if soon else 0
        if soon and age < _pause(quick):
            return False
        quick = quick + 1 if 0.0 <= age < PATIENCE or (soon and quick >= LOOPING) else 0
        LockInfo(started=time.time(), digest=self._digest, since=self._since, quick=quick).write(lock)
        return True

    def _launch(self, lock: int) -> None:
        with contextlib.ExitStack() as opened:
            pipe = os.open(self._spool.queue, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            opened.callback(os.close, pipe)
            self._save(pipe)
            joins = open_joins(self._spool.joins)
            opened.callback(close_joins, joins)
            boot = BOOTSTRAP.format(path=_import_path(), pipe=pipe, lock=lock, joins=joins)
            title = f"{TITLE}{self._settings.app} {self._spool.path}"
            process = self._run(boot, title, [each for each in (pipe, lock, joins) if each >= 0])
        assert process.stdin is not None
        self._started.append(process)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._payload)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()

    def _run(self, boot: str, title: str, opened: list[int]) -> subprocess.Popen[bytes]:
        import subprocess  # most workers find that a process runs

        try:
            process: subprocess.Popen[bytes] = unpatched.popen()(
                [interpreter(self._settings.python), "-c", boot, title],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=opened,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("SHIPPER_")},
            )
        except OSError as error:
            self.has_no_python = error.errno in _NO_PROGRAM
            raise
        self.has_no_python = False
        return process

    def _save(self, pipe: int) -> None:
        """Put into the journal what waits in the pipe by now: the process takes a while to begin, and when it is killed
        before that, and all of the application too, nobody else holds it."""
        poller = unpatched.original("select", "poll")()
        poller.register(pipe, select.POLLIN)
        waits = any(event & select.POLLIN for _, event in poller.poll(0))
        if not waits or size_on_disk(self._spool.journal) >= self._settings.spooling.quota:
            return
        from ..journal.writer import Writer  # seldom comes to that

        writer = Writer(self._spool.journal, segment_bytes=sys.maxsize, first=self._newest())
        with contextlib.suppress(OSError):  # the disk is full: it stays in the pipe
            writer.splice(pipe, PIPE_BYTES)
        writer.close()

    def _newest(self) -> int:
        """The segment that somebody has come to, should it be gone: what is written before it would not be seen."""
        known = [*saved_positions(self._spool.cursors).values(), read_json(self._spool.ledger) or {}]
        return max(1, *(get_int(each, "segment") for each in known))

    def _reap(self, *, wait: bool = False) -> None:
        """The process that we started forked and ended; take its exit status away."""
        for process in list(self._started):
            deadline = time.monotonic() + REAPING
            while wait and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)  # an event loop may have taken over what Popen waits with
            if process.poll() is not None:
                self._started.remove(process)

    def _complain(self, error: Exception) -> None:
        warn_on_stderr("the shipper process can't be started; events wait in memory", str(error))

    def replace_outdated(self) -> None:
        """Ask a process that runs with other, older settings to hand over; its journal stays, and what clients have
        joined. One that only lacks what our clients have joined is asked to take it in."""
        holder = self.holder()
        if holder is None or holder.digest == self._digest:
            return
        theirs, since = read_settings(holder), holder.since
        known = () if theirs is None else [each.name for each in theirs.backends]
        missing = [each for each in self._settings.joined_backends if each.name not in known]
        if missing:
            request_join(self._spool.joins, missing)
        is_older = since <= self._since
        replaces = is_older and (theirs is None or theirs.base_digest != self._settings.base_digest)
        if theirs is not None:
            first, second = (self._settings, theirs) if is_older else (theirs, self._settings)
            self._take(first.merge_joined(second), max(since, self._since))
        if replaces and _is_ours(holder.pid):
            with contextlib.suppress(OSError):
                os.kill(holder.pid, signal.SIGUSR1)

    def holder(self) -> LockInfo | None:
        """What the running process wrote into the lock file, or None when none runs."""
        return running(self._spool)


_locks: set[int] = set()  # descriptors of lock files that `_look` has open at this moment


def _after_fork_in_child() -> None:
    # A copy would keep the lock of a process that is gone.
    for lock in list(_locks):
        with contextlib.suppress(OSError):
            os.close(lock)
    _locks.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _import_path() -> list[str]:
    """sys.path as another folder sees it, less what is named from a working directory that is gone."""
    found = []
    for entry in sys.path:
        with contextlib.suppress(OSError):
            found.append(os.path.abspath(entry))
    return found


def _pause(quick: int) -> float:
    """Seconds between two starts, after so many processes in a row that ended within a second."""
    if quick >= LOOPING:
        return LONG_PATIENCE
    return min(0.05 * 2.0**quick, PATIENCE) if quick else 0.0


def _is_ours(pid: int) -> bool:
    if pid <= 1:
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return TITLE.encode() in file.read()
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")
