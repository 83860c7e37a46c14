"""Threads, locks and functions of the operating system, also when gevent or eventlet has patched the standard library.

A helper that waits for a pipe or a file lock must not block the application's event loop, so it needs a real thread.
"""

from __future__ import annotations

import functools
import os
import posix
import sys
import types
from collections.abc import Callable
from typing import Any


def original(module: str, name: str) -> Any:
    """The attribute of a module of the standard library as it was before gevent or eventlet replaced it."""
    for patcher in ("gevent.monkey", "eventlet.patcher"):
        known = sys.modules.get(patcher)
        if known is None:
            continue
        if patcher == "gevent.monkey":
            return known.get_original(module, name)
        return getattr(known.original(module), name)
    return getattr(__import__(module), name)


write = posix.write
"""`os.write` as it was before eventlet replaced it: eventlet's blocks on a full pipe, and fails in two greenlets."""


def is_patched() -> bool:
    """Whether `time.sleep` has been replaced, so that a wait in this thread must give way to an event loop."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("time"):
        return True
    return eventlet is not None and bool(eventlet.is_monkey_patched("time"))


def popen() -> Any:
    """`subprocess.Popen` that works in any thread: gevent's needs its main loop's thread, and the original fails."""
    import subprocess  # a process that only logs does not need it

    gevent = sys.modules.get("gevent.monkey")
    if gevent is None or not gevent.is_module_patched("subprocess"):
        return subprocess.Popen
    return _another_subprocess(gevent).Popen


@functools.cache
def _another_subprocess(gevent: Any) -> Any:
    import importlib.util
    import subprocess

    spec = importlib.util.spec_from_file_location("shipper._subprocess", subprocess.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # `Popen` waits until a pipe is closed, which gevent's os.close would do only when the event loop goes on.
    module.os = types.SimpleNamespace(**{name: gevent.get_original("os", name) for name in dir(os)})  # type: ignore[attr-defined]
    return module


def new_rlock() -> Any:
    """A re-entrant lock of real threads. A signal handler that logs may take it again in the same thread."""
    return original("_thread", "RLock")()


def is_fork_pending() -> bool:
    """Whether this process is going to fork without Python's hooks: uWSGI's first process, before it has workers."""
    uwsgi: Any = sys.modules.get("uwsgi")
    try:
        return uwsgi is not None and uwsgi.worker_id() == 0 and uwsgi.mule_id() == 0 and not uwsgi.i_am_the_spooler()
    except Exception:  # another module of that name
        return False


def start_thread(target: Callable[[], None], name: str) -> None:
    """Run `target` in a daemon thread; RuntimeError when none can be started.

    None is started in a process that is going to fork without Python's hooks: if the thread holds the GIL at that
    moment, the child never gets it.
    """
    if is_fork_pending():
        raise RuntimeError("no thread is started before uWSGI forks its workers")
    if "gevent.monkey" in sys.modules or "eventlet.patcher" in sys.modules:
        original("_thread", "start_new_thread")(target, ())
        return
    import threading

    threading.Thread(target=target, name=name, daemon=True).start()
