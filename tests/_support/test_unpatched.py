"""Threads and locks of the operating system, whatever has been patched."""

from __future__ import annotations

import _thread
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from shipper._support.unpatched import new_rlock, original, start_thread

from ..support.waiting import PATIENCE, wait_until


@pytest.fixture(params=["gevent.monkey", "eventlet.patcher"])
def patched(request: pytest.FixtureRequest) -> Iterator[None]:
    """A stand-in for a library that has replaced what the standard library had."""
    stand_in = types.ModuleType(request.param)
    stand_in.get_original = lambda module, name: getattr(sys.modules[module], name)  # type: ignore[attr-defined]
    stand_in.original = lambda module: sys.modules[module]  # type: ignore[attr-defined]
    before = sys.modules.get(request.param)
    sys.modules[request.param] = stand_in
    yield
    if before is None:
        del sys.modules[request.param]
    else:
        sys.modules[request.param] = before


def test_the_lock_is_reentrant() -> None:
    lock = new_rlock()

    with lock, lock:
        others: list[bool] = []
        thread = threading.Thread(target=lambda: others.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
    assert others == [False]


def test_a_thread_runs_and_does_not_keep_the_interpreter_alive() -> None:
    seen: list[Any] = []
    start_thread(lambda: seen.append((threading.current_thread().name, threading.current_thread().daemon)), "helper")

    wait_until(lambda: seen)
    assert seen == [("helper", True)]


@pytest.mark.usefixtures("patched")
def test_under_a_patcher_threads_and_locks_are_those_of_the_system() -> None:
    done = threading.Event()
    start_thread(done.set, "helper")

    assert done.wait(PATIENCE)
    assert original("_thread", "RLock") is _thread.RLock
    with new_rlock():
        pass
