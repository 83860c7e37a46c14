"""Which program runs the shipper process: a Python interpreter, or a frozen application that can start as one."""

from __future__ import annotations

import os
import sys

from ..._support.frozen import is_frozen
from ...errors import ConfigurationError

ENTRY = "--run-shipper-process"
"""First argument of a frozen application that is to be the shipper process; the second has `main`'s arguments."""

_PYTHONS = ("python", "pypy", "graalpy")
_has_entry = False


def allow_entry() -> None:
    """Note that this program calls `shipper.run_if_shipper()`, so it can be started as the shipper process."""
    global _has_entry
    _has_entry = True


def is_one_file() -> bool:
    """Whether a parent process has unpacked this program, and removes its files when this process ends."""
    unpacked = getattr(sys, "_MEIPASS", None)
    return unpacked is not None and not os.path.realpath(unpacked).startswith(
        os.path.dirname(os.path.realpath(sys.executable))
    )


def runs_itself(setting: str) -> bool:
    """Whether this frozen program is started again as the shipper process."""
    return not setting and is_frozen() and _has_entry


def find_interpreter(setting: str) -> str:
    """The setting, else this interpreter, else one in `sys.prefix` or on PATH: this program may be uWSGI.

    Raises ConfigurationError when there is none: another program must never be started in its place.
    """
    if setting:
        return setting
    if is_frozen():
        if _has_entry:
            return sys.executable
        raise ConfigurationError(
            "python",
            sys.executable,
            "is this frozen program, not a Python interpreter: call shipper.run_if_shipper() in the first lines of its "
            "main module, or give python=, an interpreter in which shipper is installed",
        )
    found = _this_interpreter() or _interpreter_beside()
    if found is None:
        allowed = "is not a Python interpreter, and there is none beside it: give python=, the path of one"
        raise ConfigurationError("python", sys.executable, allowed)
    return found


def _this_interpreter() -> str | None:
    executable = sys.executable or ""
    return executable if os.path.basename(executable).lower().startswith(_PYTHONS) else None


def _interpreter_beside() -> str | None:
    exact = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in (os.path.join(sys.prefix, "bin"), os.path.join(sys.exec_prefix, "bin")):
        for name in (exact, "python3", "python"):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                return path
    import shutil  # rarely needed

    return shutil.which(exact)
