"""Processes whose handler was removed by other code: one file `detached-<pid>` each, for `shipper status`.

A process writes its file when it notices that, and removes it when the handler is attached again or the app is stopped.
The file of a process that has ended is ignored, and removed by the next process that writes one.
"""

from __future__ import annotations

import contextlib
import os

from .files import get_str, read_json, write_atomically
from .layout import Spool

_PREFIX = "detached-"


def note_detached(spool: Spool, logger: str) -> None:
    """Note that this process no longer ships what reaches `logger`. Errors are ignored."""
    with contextlib.suppress(OSError):
        _remove_stale(spool)
        write_atomically(_path(spool, os.getpid()), {"logger": logger})


def clear_detached(spool: Spool) -> None:
    """Remove the note of this process, if there is one."""
    with contextlib.suppress(OSError):
        os.unlink(_path(spool, os.getpid()))


def detached_processes(spool: Spool) -> dict[int, str]:
    """Pid → name of the logger, of the running processes that have a file."""
    found = {}
    with contextlib.suppress(OSError):
        for pid in filter(_exists, _pids(spool)):
            found[pid] = get_str(read_json(_path(spool, pid)) or {}, "logger")
    return found


def _remove_stale(spool: Spool) -> None:
    for pid in _pids(spool):
        if not _exists(pid):
            os.unlink(_path(spool, pid))


def _pids(spool: Spool) -> list[int]:
    names = (name.removeprefix(_PREFIX) for name in os.listdir(spool.path) if name.startswith(_PREFIX))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _path(spool: Spool, pid: int) -> str:
    return os.path.join(spool.path, f"{_PREFIX}{pid}")
