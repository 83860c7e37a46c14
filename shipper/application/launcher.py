"""Starts the shipper process: a fresh Python interpreter that inherits two descriptors and reads its settings on stdin.

The descriptors are the lock file, locked, and the reading end of the queue: at no moment is either of them held by no
process. Settings and secrets are on no disk, in no argument and in no environment variable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from typing import TYPE_CHECKING

from .._support import unpatched
from ..config.settings import Settings
from ..spool.joined import close_joins, open_joins
from ..spool.layout import Spool

if TYPE_CHECKING:
    import subprocess

TITLE = "shipper: "  # the last argument of the process: this, the app's name and its spool
REAP_SECONDS = 2.0  # that the process we started has to fork and end

_NO_PROGRAM = (errno.ENOENT, errno.ENOEXEC, errno.EACCES, errno.ENOTDIR)  # another attempt will not help

# Fork once and let the parent end: the shipper process is nobody's child, so no application has a zombie to reap.
BOOTSTRAP = (
    "import os,sys\n"
    "os.fork() and os._exit(0)\n"
    "sys.path[:]={path!r}\n"
    "from shipper.process.main import main\n"
    "main({pipe},{lock},{joins},{starter})"
)


def find_interpreter(setting: str) -> str:
    """The Python to run the process with: the setting, else this one, else one beside it (this one may be uWSGI)."""
    if setting:
        return setting
    name = os.path.basename(sys.executable or "")
    if name.startswith(("python", "pypy")):
        return sys.executable
    for folder in (os.path.join(sys.prefix, "bin"), os.path.join(sys.exec_prefix, "bin")):
        for each in (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python"):
            if os.access(os.path.join(folder, each), os.X_OK):
                return os.path.join(folder, each)
    import shutil  # rarely needed

    return shutil.which("python3") or sys.executable


def is_shipper_process(pid: int) -> bool:
    """Whether a process has our title; True where the system does not show command lines."""
    if pid <= 1:
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return TITLE.encode() in file.read()
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")


class Launcher:
    """Starts shipper processes of one spool, and collects the exit statuses of their parents."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._children: list[subprocess.Popen[bytes]] = []
        self.has_no_python = False
        """Whether the last attempt failed because there was no interpreter that could be run."""

    def launch(self, settings: Settings, payload: bytes, pipe: int, lock: int) -> None:
        """Start a process with the pickled settings `payload`. OSError when it can't be started."""
        with contextlib.ExitStack() as opened:
            joins = open_joins(self._spool.joins)
            opened.callback(close_joins, joins)
            code = BOOTSTRAP.format(path=_import_path(), pipe=pipe, lock=lock, joins=joins, starter=os.getpid())
            title = f"{TITLE}{settings.app} {self._spool.path}"
            command = [find_interpreter(settings.python), "-c", code, title]
            child = self._run(command, [each for each in (pipe, lock, joins) if each >= 0])
        assert child.stdin is not None
        self._children.append(child)
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(payload)
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()

    def _run(self, command: list[str], inherited: list[int]) -> subprocess.Popen[bytes]:
        import subprocess  # most workers find a running process

        try:
            child: subprocess.Popen[bytes] = unpatched.popen()(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("SHIPPER_")},
            )
        except OSError as error:
            self.has_no_python = error.errno in _NO_PROGRAM
            raise
        self.has_no_python = False
        return child

    def reap(self, *, wait: bool = False) -> None:
        """Collect the exit statuses of the children, which end as soon as they have forked."""
        for child in list(self._children):
            deadline = time.monotonic() + REAP_SECONDS
            while wait and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)  # not Popen.wait: an event loop may have replaced what it waits with
            if child.poll() is not None:
                self._children.remove(child)


_adopted: set[int] = set()  # shipper processes whose parent this process is, because it is PID 1


def reap_adopted(pid: int) -> None:
    """As PID 1 of a container, collect the exit status of this shipper process, and of earlier ones, once they end.

    Their own parent has ended, so they are children of PID 1: elsewhere of an init that collects it.
    """
    if os.getpid() != 1:
        return
    if pid > 1:
        _adopted.add(pid)
    for each in list(_adopted):
        try:
            has_ended = os.waitpid(each, os.WNOHANG)[0] == each
        except ChildProcessError:  # collected by the application's own code, or not a child
            has_ended = each != pid
        if has_ended:
            _adopted.discard(each)


def _import_path() -> list[str]:
    """sys.path in absolute terms, without entries relative to a working directory that no longer exists."""
    found = []
    for entry in sys.path:
        with contextlib.suppress(OSError):
            found.append(os.path.abspath(entry))
    return found
