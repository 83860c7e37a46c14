"""Threads and locks that stay real ones when gevent or eventlet has replaced those of the standard library.

A helper that waits for a pipe or a file lock must not stop the event loop of the application, so it needs a thread of
the operating system.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def original(module: str, name: str) -> Any:
    """What the standard library itself put there, before anybody patched it."""
    for patcher in ("gevent.monkey", "eventlet.patcher"):
        known = sys.modules.get(patcher)
        if known is None:
            continue
        if patcher == "gevent.monkey":
            return known.get_original(module, name)
        return getattr(known.original(module), name)
    return getattr(__import__(module), name)


def new_rlock() -> Any:
    """A re-entrant lock of real threads. A signal handler that logs may take it again in the same thread."""
    return original("_thread", "RLock")()


def start_thread(target: Callable[[], None], name: str) -> None:
    """Run `target` in a daemon thread; RuntimeError when the system has no thread left."""
    if "gevent.monkey" in sys.modules or "eventlet.patcher" in sys.modules:
        original("_thread", "start_new_thread")(target, ())
        return
    import threading

    threading.Thread(target=target, name=name, daemon=True).start()
