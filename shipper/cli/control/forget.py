"""`shipper forget` - removes what an app that is gone has left: its spool and its memory files."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, NOT_TRIED, OK, complain
from ..terminal import plural, size
from .one_app import with_app

if TYPE_CHECKING:
    from ...spool.layout import Spool
    from ..status.find import Found

FRESH_SECONDS = 15.0  # a younger status means that a process of another host still runs


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "forget",
        help="remove the files of an app that is gone",
        description="Removes the spool of an app and its files in memory, after asking. Refused while a process of the "
        "app runs, and while events are not delivered or dead letters are kept, unless --discard gives them up.",
        epilog="Exit code: 0 removed; 1 refused, or there is no such app; 2 wrong usage.",
        examples="""
            shipper forget old-batch
            shipper forget old-batch --yes --discard    without asking, and with what it has not delivered
        """,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("app", nargs="?", metavar="APP", help="the app, by its name")
    which.add_argument("--spool", metavar="PATH", help="the app, by its folder")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--discard", action="store_true", help="give up events that are not delivered")
    parser.set_defaults(run=with_app(_forget))


def _forget(given: argparse.Namespace, app: Found) -> int:
    spools, name = [app.spool, *_lanes(app.spool)], app.read().app
    if not os.path.exists(app.spool.app):  # a folder that only looks like a spool
        return complain(f"{app.spool.path} has no file `app`, so it is no spool of ours: remove it by hand", code=1)
    with contextlib.ExitStack() as locked:
        for spool in spools:
            obstacle = _lock(spool, locked)
            if obstacle:
                return complain(f"{name} cannot be forgotten: {obstacle}", code=BAD_NEWS)
        if not given.discard and (kept := [text for spool in spools for text in _undelivered(spool, name)]):
            what = "; ".join(kept)
            hint = "start the application to deliver them, or give them up with --discard"
            return complain(f"{name} has {what}: {hint}", code=BAD_NEWS)
        if not given.yes and not _agreed(app):
            return complain("nothing is removed", code=NOT_TRIED)
        _remove(spools)
    print(f"{name} is forgotten: {app.spool.path} and its files in memory are removed.")
    return OK


def _lanes(spool: Spool) -> Iterator[Spool]:
    """The spools of other hosts in the same folder."""
    from ...spool.layout import Spool

    with contextlib.suppress(OSError):
        yield from (Spool(entry.path) for entry in os.scandir(spool.hosts) if entry.is_dir(follow_symlinks=False))


def _lock(spool: Spool, locked: contextlib.ExitStack) -> str:
    """Keep shipper processes away until ``locked`` is closed; return why that is not possible, or ""."""
    from ...spool.files import reclaim_file
    from ...spool.lock import lock_journal, running
    from ...transport.memory.shared_file import living_pids

    lock = reclaim_file(spool.lock, os.O_RDWR | os.O_CREAT)
    locked.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal = lock_journal(spool)
        if journal >= 0:
            locked.callback(os.close, journal)
    except BlockingIOError:
        holder = running(spool)
        return f"its shipper process runs{f' (pid {holder.pid})' if holder and holder.pid else ''}"
    pids = sorted({pid for folder in (spool.overflow, spool.overflow_on_disk) for pid in living_pids(folder)})
    if pids:
        return f"{plural(len(pids), 'process', 'processes')} of it run{'s' if len(pids) == 1 else ''} (pid {pids[0]})"
    if _has_writer(spool.queue):
        return "a process has its queue open"
    return "it runs on another host" if _runs_elsewhere(spool) else ""


def _has_writer(queue: str) -> bool:
    """Whether a process has the FIFO open for writing. Nothing is read from it."""
    flags = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    reading = os.open(queue, os.O_RDONLY | flags)
    try:
        # The kernel reports a hang-up only to readers that have seen a writer.
        os.close(os.open(queue, os.O_WRONLY | flags))
        poller = select.poll()
        poller.register(reading, select.POLLIN)
        return not any(events & select.POLLHUP for _, events in poller.poll(0))
    finally:
        os.close(reading)


def _runs_elsewhere(spool: Spool) -> bool:
    """Whether a process on another host, whose lock may not be seen here, has written the status lately."""
    from ...spool.files import read_json
    from ...spool.host import Host

    host = Host.read(spool)
    if host is None or host.boot == Host.of(spool).boot or (read_json(spool.status) or {}).get("ended") is True:
        return False
    try:
        return time.time() - os.stat(spool.status).st_mtime < FRESH_SECONDS
    except OSError:
        return False


def _undelivered(spool: Spool, app: str) -> Iterator[str]:
    from ...report import read_status

    status = read_status(spool, app)
    for backend in status.backends:
        if backend.left:
            yield f"{plural(backend.left, 'event')} for {backend.name} that {_is(backend.left)} not delivered"
        if backend.dead_letters:
            yield f"{plural(backend.dead_letters, 'dead letter')} of {backend.name}"
    if status.in_memory:
        yield f"{plural(status.in_memory, 'event')} in memory that {_is(status.in_memory)} not delivered"
    if status.updated is None and status.journal_bytes:
        yield f"a journal of {size(status.journal_bytes)}, of which nobody knows what is delivered"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _agreed(app: Found) -> bool:
    if not sys.stdin.isatty():  # a script: its input is no answer
        complain("give --yes, for there is no terminal to ask at", code=NOT_TRIED)
        return False
    print(f"Remove {app.spool.path} and its files in memory? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _remove(spools: list[Spool]) -> None:
    """Remove the first spool (it contains the others) and all memory files. OSError when the spool can't be removed."""
    memory = [spool.overflow for spool in spools if spool.overflow != spool.overflow_on_disk]
    top = spools[0].path
    gone = f"{top}.forgotten-{os.getpid()}"
    os.rename(top, gone)  # an application that starts now makes a new one
    shutil.rmtree(gone)
    for folder in memory:
        shutil.rmtree(folder, ignore_errors=True)
