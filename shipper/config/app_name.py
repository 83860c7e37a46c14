"""The default name of an app, derived from the running program."""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple

from .._support.hashing import sha256_hex
from .._support.lazy_pattern import LazyPattern

_MODULE = LazyPattern(r"[A-Za-z_][\w.]*")


GIVEN_NAME = (("rule", "given"),)
"""Used instead of `DerivedName.parts` for a name that was set."""


class DerivedName(NamedTuple):
    """The name of a program, and what it was derived from: ``rule`` (script, server or folder) and its parts."""

    app: str
    parts: tuple[tuple[str, str], ...]

    def sending_to(self, destinations: str) -> DerivedName:
        """Return the name with a digest of destinations: with other URLs or keys the program is another app."""
        return DerivedName(f"{self.app}-{destinations}", (*self.parts, ("destinations", destinations)))


def default_app() -> str:
    """Return a name for the running program that is the same in all of its workers."""
    return derive_name().app


def derive_name() -> DerivedName:
    """The name of the running program, which is the same in all of its workers.

    A script is named after its file. A server that is installed in the environment (gunicorn, uvicorn, celery …) runs
    many applications, so its name is derived from the server, the working directory and those of its arguments that
    name modules that are loaded, or lie in the working directory.
    """
    program = _program()
    if program is None:
        folder = working_directory()
        return DerivedName(_named("python", ["interactive", folder]), (("rule", "folder"), ("folder", folder)))
    stem = os.path.splitext(os.path.basename(program))[0]
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(program))
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", stem).strip("-_") or "app"
    if not _is_installed(program):
        script = os.path.realpath(program)
        return DerivedName(_named(stem, [script]), (("rule", "script"), ("script", script)))
    modules = sorted({word for word in sys.argv[1:] if _names_a_module(word)})
    folder = working_directory()
    parts = (("rule", "server"), ("server", stem), ("folder", folder), ("modules", " ".join(modules)))
    return DerivedName(_named(stem, [stem, folder, *modules]), parts)


def working_directory() -> str:
    """The working directory, or the root directory when it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def _named(stem: str, parts: list[str]) -> str:
    return f"{stem[:60]}-{sha256_hex(chr(0).join(parts).encode(errors='surrogateescape'))[:8]}"


def _program() -> str | None:
    """The main program's file (in a spawned worker, the parent's). None for `-c`, stdin and the interactive prompt."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    # A worker of loky (joblib) is a program of its own that has the arguments of its parent.
    if isinstance(file, str) and os.path.isfile(file) and f"{os.sep}loky{os.sep}backend{os.sep}" not in file:
        return os.path.abspath(file)
    first = sys.argv[0] if sys.argv else ""
    return os.path.abspath(first) if first not in ("", "-", "-c") and os.path.isfile(first) else None


def _is_installed(program: str) -> bool:
    """Whether the program belongs to a Python environment rather than to an application."""
    folder = os.path.dirname(os.path.abspath(program))
    if f"{os.sep}site-packages{os.sep}" in program or f"{os.sep}dist-packages{os.sep}" in program:
        return True
    if os.path.realpath(program).startswith(os.path.dirname(os.path.realpath(os.__file__)) + os.sep):
        return True  # a module of the standard library, such as python -m unittest
    return os.path.basename(folder) in ("bin", "sbin") or os.path.exists(os.path.join(folder, "python3"))


def _names_a_module(word: str) -> bool:
    name = word.partition(":")[0].removesuffix(".py")
    if not _MODULE.fullmatch(name):
        return False
    # Files count too: gunicorn.conf.py runs before the module is loaded, and the name must be the same then.
    path = os.path.join(working_directory(), *name.split("."))
    return name in sys.modules or os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))
