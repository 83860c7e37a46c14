"""Starts the shipper process: a fresh Python interpreter that inherits two descriptors and reads its settings on stdin.

The descriptors are the locked lock file and the reading end of the queue; as they are inherited, some process has them
open at every moment. Settings and secrets are never on disk, in an argument or in an environment variable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..._support import unpatched
from ..._support.frozen import is_frozen
from ...config.settings import Settings
from ...spool.joined import close_joins, open_joins
from ...spool.layout import Spool
from ...spool.owner import future_owner
from ...transport.descriptors import OwnDescriptor
from .interpreter import ENTRY, find_interpreter, is_one_file, runs_itself

if TYPE_CHECKING:
    import subprocess

TITLE = "shipper: "  # the last argument of the process: this, the app's name and its spool
ENCODER = "shipper encoder"  # kernel's name of the processes that `process/encoders` starts
REAP_SECONDS = 2.0  # that a started process has to fork and end

_NO_PROGRAM = (errno.ENOENT, errno.ENOEXEC, errno.EACCES, errno.ENOTDIR)  # another attempt will not help

# Fork once and let the parent end: init adopts the shipper process, so no application has a zombie to reap.
BOOTSTRAP = (
    "import os,sys\n"
    "os.fork() and os._exit(0)\n"
    "sys.path[:]={path}\n"
    "from shipper.process.main import main\n"
    "main({pipe},{lock},{joins},{starter})"
)


def is_shipper_process(pid: int) -> bool:
    """Whether a process has our title; True where the system does not show command lines."""
    if pid <= 1:
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return TITLE.encode() in file.read()
    except FileNotFoundError:
        return not os.path.isdir("/proc/self")


def _write(stdin: OwnDescriptor, payload: bytes) -> None:
    """Write the settings, which contain keys, to the process; stop if other code has closed the descriptor."""
    with contextlib.suppress(OSError):
        while payload and stdin.is_own():
            payload = payload[unpatched.write(stdin.number, payload) :]


class Launcher:
    """Starts shipper processes of one spool. Its children fork them and end; it collects their exit statuses."""

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
            title = f"{TITLE}{settings.app} {self._spool.path}"
            command = [*_program(settings.python, pipe, lock, joins), title]
            reading, writing = map(OwnDescriptor, os.pipe())
            opened.callback(reading.close)
            opened.callback(writing.close)
            child = self._run(command, reading.number, [each for each in (pipe, lock, joins) if each >= 0])
            reading.close()  # else a write would block after the process has ended
            _write(writing, payload)
        self._children.append(child)

    def _run(self, command: list[str], stdin: int, inherited: list[int]) -> subprocess.Popen[bytes]:
        import subprocess  # most workers find a running process

        try:
            child: subprocess.Popen[bytes] = unpatched.popen()(
                command,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,
                env=_environment(),
                **_user(),
            )
        except OSError as error:
            self.has_no_python = error.errno in _NO_PROGRAM
            raise
        self.has_no_python = False
        return child

    def reap(self, *, wait: bool = False) -> None:
        """Collect the exit statuses of the children, which end as soon as they have forked.

        In PyInstaller's one-file mode a child does not fork: it ends with the shipper process, and is not waited for.
        """
        wait = wait and not is_one_file()
        for child in list(self._children):
            deadline = time.monotonic() + REAP_SECONDS
            while wait and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)  # not Popen.wait: gevent or eventlet may have patched it
            if child.poll() is not None:
                with contextlib.suppress(ValueError):  # another thread has removed it
                    self._children.remove(child)


_adopted: set[int] = set()  # shipper processes whose parent this process is, because it is PID 1


def reap_adopted(pid: int) -> None:
    """As PID 1 of a container, collect the exit status of this shipper process, and of earlier ones, once they end.

    Their own parent has ended, so they are children of PID 1; where that is an init, it collects them.
    """
    if os.getpid() != 1:
        return
    if pid > 1:
        _adopted.add(pid)
    _adopted.update(ended_encoders())
    for each in list(_adopted):
        try:
            has_ended = os.waitpid(each, os.WNOHANG)[0] == each
        except ChildProcessError:  # collected by the application's own code, or not a child
            has_ended = each != pid
        if has_ended:
            _adopted.discard(each)


def ended_encoders() -> Iterator[int]:
    """Yield the pids of ended encoder processes whose shipper process has ended, so that they are PID 1's children."""
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        for pid in map(int, file.read().split()):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                name, _, rest = stat.read().partition("(")[2].rpartition(")")
                if name == ENCODER and rest.split()[0] == "Z":
                    yield pid


def _program(python: str, pipe: int, lock: int, joins: int) -> list[str]:
    """The program of the shipper process and its first arguments."""
    program = find_interpreter(python)
    if runs_itself(python):
        return [program, ENTRY, f"{pipe},{lock},{joins},{os.getpid()}"]
    # An interpreter can't import a frozen application's modules: it uses its own sys.path.
    path = "sys.path" if is_frozen() else repr(_import_path())
    return [program, "-c", BOOTSTRAP.format(path=path, pipe=pipe, lock=lock, joins=joins, starter=os.getpid())]


def _user() -> dict[str, Any]:
    """The arguments of Popen that make the process run as the user that the spool belongs to."""
    owner = future_owner()
    return {} if owner is None else {"user": owner[0], "group": owner[1], "extra_groups": []}


def _environment() -> dict[str, str]:
    """This process's environment without our settings, and without what PyInstaller has put there for itself."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("SHIPPER_")}
    if is_frozen():
        found.pop("_MEIPASS2", None)
        found["PYINSTALLER_RESET_ENVIRONMENT"] = "1"  # it unpacks its own files then: this process may end first
        original = found.pop("LD_LIBRARY_PATH_ORIG", None)
        found.pop("LD_LIBRARY_PATH", None)
        if original is not None:
            found["LD_LIBRARY_PATH"] = original
    return found


def _import_path() -> list[str]:
    """sys.path in absolute terms, without entries relative to a working directory that no longer exists."""
    found = []
    for entry in sys.path:
        with contextlib.suppress(OSError):
            found.append(os.path.abspath(entry))
    return found
