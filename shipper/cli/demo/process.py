"""The demo's application as a child process, and the shipper process that it starts."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from ...application.supervision.launcher import TITLE
from ...report import read_status
from ...spool.layout import Spool
from .application import Task

END = 1.0  # seconds that the application, and then the shipper process, may take to end before they get SIGKILL
TICK = 0.05  # seconds between two looks at a process that ends

_BOOTSTRAP = "import sys; sys.path[:] = {path!r}; from shipper.cli.demo.application import main; main(sys.argv[1])"


class DemoFailed(Exception):
    """The demo could not be played to its end; the text says why."""


class ApplicationProcess:
    """The application's main process, in a session of its own. The end of ``with`` ends it and its workers."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder = folder
        self._task = task
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> ApplicationProcess:
        code = _BOOTSTRAP.format(path=[os.path.abspath(entry) for entry in sys.path])
        with open(self._stderr, "wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, self._task.as_text()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=self._folder,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("SHIPPER_")},
            )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END)
        if self._process.returncode is None:
            # Not waited for yet, so the number of its group still belongs to it.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def _stderr(self) -> Path:
        return self._folder / "stderr"

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, command: str) -> None:
        """Send one line. If the application has ended, `answer` reports it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()

    @property
    def has_answered(self) -> bool:
        """Whether the application has printed a line that `answer` has not read yet, or has ended."""
        return not self._lines.empty()

    def answer(self, word: str, until: float) -> str:
        """The rest of its next line, which has to begin with ``word``.

        DemoFailed when it is another line, or when none comes until the moment ``until`` (time.monotonic()).
        """
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise DemoFailed(f"the application did not answer {word!r} in time") from None
        found, _, rest = (line or "").strip().partition(" ")
        if found != word:
            raise DemoFailed(f"the application ended early; its stderr:\n{self._stderr.read_text()[-2000:]}")
        return rest


def shipper_pid(spool: Spool) -> int | None:
    """The pid of the process that holds the spool's lock, once that is a shipper process of this spool."""
    pid = read_status(spool, "demo").pid
    if pid is None:
        return None
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return pid if TITLE.encode() in command and os.fsencode(spool.path) in command else None
    return None


def end_shipper(spool: Spool) -> None:
    """Kill a shipper process that still runs. The application must have ended: it would start another one."""
    deadline = time.monotonic() + END
    while read_status(spool, "demo").running and time.monotonic() < deadline:
        pid = shipper_pid(spool)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        threading.Event().wait(TICK)
