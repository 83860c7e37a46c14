"""Modules whose code is kept when an application starts, and which are loaded from it when they are first imported.

A module takes several times the memory of its code. What an application needs to flush, to stop or to tell its status
is loaded then, not by every worker. By that time a deployment may have removed the package's files, or replaced them by
those of another version: so the code is not read from the disk again.
"""

from __future__ import annotations

import contextlib
import importlib
import marshal
import os
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

from .unpatched import new_rlock

_kept: dict[str, tuple[str | None, bytes]] = {}  # name → the module's file, and its code
_running: list[tuple[str, int]] = []  # modules that are being loaded at this moment, and by which threads
_lock = new_rlock()  # a process does not fork while a thread loads one: in its child the import would never end


def keep_code(*names: str) -> None:
    """Keep the code of these modules, unless they are loaded; load those whose code can't be kept.

    Raises ImportError for a module that does not exist.
    """
    for name in names:
        if name in sys.modules or name in _kept:
            continue
        spec = _find_spec(name)
        code = _code(spec) if spec is not None else None
        if spec is None or code is None:
            importlib.import_module(name)
        else:
            _kept[name] = spec.origin, marshal.dumps(code)
    _put_finder()


@contextlib.contextmanager
def use_kept_code() -> Iterator[None]:
    """For import statements that name modules whose code is kept, and nothing else."""
    with _lock:
        _put_finder()
        for name, thread in list(_running):
            if thread == threading.get_ident():
                # A signal handler, which has interrupted this thread's import, gets a module of its own: a whole one.
                sys.modules.pop(name, None)
        yield


def _put_finder() -> None:
    if _kept and _FINDER not in sys.meta_path:  # the first time, or other code has replaced the list
        # In front, and for good: another thread that goes through the list at this moment misses no finder.
        sys.meta_path.insert(0, _FINDER)


def _find_spec(name: str) -> ModuleSpec | None:
    path = importlib.import_module(name.rpartition(".")[0]).__path__
    found = (finder.find_spec(name, path) for finder in list(sys.meta_path) if hasattr(finder, "find_spec"))
    return next((spec for spec in found if spec is not None), None)


def _code(spec: ModuleSpec) -> CodeType | None:
    """None where there is none: in a program that Nuitka has compiled, for example."""
    get_code: Any = getattr(spec.loader, "get_code", None)
    code = get_code(spec.name) if get_code is not None else None
    return code if isinstance(code, CodeType) else None


class _Finder:
    """Finder and loader of the modules whose code is kept."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        kept = _kept.get(name)
        if kept is None:
            return None
        spec = ModuleSpec(name, self, origin=kept[0])  # type: ignore[arg-type]  # a loader by its methods
        spec.has_location = kept[0] is not None
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        running = (name, threading.get_ident())
        code = marshal.loads(_kept[name][1])
        _running.append(running)
        try:
            exec(code, module.__dict__)
            _kept.pop(name, None)
        finally:
            _running.remove(running)


_FINDER: Any = _Finder()


def _after_fork_in_child() -> None:
    global _lock
    _lock = new_rlock()


def _before_fork() -> None:
    _lock.acquire()


def _after_fork_in_parent() -> None:
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
