"""The entry of the shipper process: reads its settings from stdin, runs the service, and exits.

The application's supervisor starts it. It inherits the reading end of the queue and the locked lock file, both open.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import sys
from typing import NoReturn

from ..config.settings import Settings
from ..journal.pipe_content import has_writers, save_all
from ..spool.layout import Spool
from ..transport.pipe import grow_pipe
from .service import Service
from .status.crashes import Crashes
from .system import log
from .system.inherited_stderr import InheritedStderr
from .system.lock_file import LockFile
from .system.title import set_title
from .threads import EXIT_FAILED

SWITCH_SECONDS = 0.001  # for which one thread may run at a stretch: intake must run often, as the pipe holds only 1 MiB

_log = logging.getLogger(log.NAME)


def main(pipe: int, lock: int, joins: int, starter: int) -> NoReturn:
    """Run the process and exit.

    ``pipe``, ``lock`` and ``joins`` are inherited descriptors; ``joins`` may be -1. ``starter`` is the pid of the
    application process that started this one.
    """
    stderr = InheritedStderr(starter)
    set_title(sys.argv[-1])
    os.umask(0o077)
    os.chdir("/")
    settings = _read_settings()
    if settings is None:
        with contextlib.suppress(OSError):
            if not has_writers(pipe):  # then its content is lost when this process ends
                save_all(Spool(_spool_path()), pipe)
        os._exit(0)
    _close_stdin()
    stderr.close_if_orphaned()
    log.set_up(Spool(settings.spool).log, settings.app)
    grow_pipe(pipe)
    try:
        lock_file = LockFile(lock, Spool(settings.spool))
    except BlockingIOError:  # the lock file was removed, and a second process was started
        _log.warning("another process works on the journal in %s", settings.spool)
        os._exit(0)
    lock_file.publish(settings)
    _use_batch_scheduling()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(50_000, 20, 100)  # events have no cycles, and collecting thousands of them takes long
    crashes = Crashes(Spool(settings.spool).crash)
    crashes.note_start()
    status = 0
    try:
        Service(settings, pipe=pipe, joins=joins, lock_file=lock_file, crashes=crashes, stderr=stderr).run()
    except BaseException as error:
        crashes.report(error)
        status = EXIT_FAILED
    logging.shutdown()
    os._exit(status)


def _spool_path() -> str:
    """Return the spool's path from the title of the process, for use without settings."""
    return sys.argv[-1].split(" ", 2)[-1]


def _read_settings() -> Settings | None:
    """Read the settings that the supervisor wrote; None when it was killed before, or when they can't be read here."""
    try:
        # Do not read to the end of file: a child that the application forked just now may hold the writing end open.
        with open(0, "rb", closefd=False) as stdin:
            settings = pickle.load(stdin)
    except (EOFError, pickle.UnpicklingError):
        return None
    except Exception as error:  # a backend's module that can't be imported here
        log.set_up(Spool(_spool_path()).log, os.path.basename(_spool_path()))
        Crashes(Spool(_spool_path()).crash).report(RuntimeError(f"the settings can't be read: {error!r}"))
        return None
    return settings if isinstance(settings, Settings) else None


def _close_stdin() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)


def _use_batch_scheduling() -> None:
    """Wake up without preempting other processes, such as the application; the share of processor time is the same.

    This halves the 99.9th percentile of a logging call on a machine with as many busy processes as processors.
    """
    with contextlib.suppress(OSError, AttributeError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
