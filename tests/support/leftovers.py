"""What a test left behind: processes, threads, open FIFOs, folders."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import psutil

from shipper.spool.layout import Spool
from shipper.transport.memory import pipe_mirror

MARK = "TEST_RUN_MARK"
"""An environment variable that every process this test run starts, however indirectly, inherits."""

HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""What multiprocessing keeps running until the interpreter ends."""


def mark_this_run() -> None:
    os.environ[MARK] = uuid.uuid4().hex


@dataclass(frozen=True)
class Scene:
    """The processes, threads, open FIFOs and temporary files of one moment, to find what a test leaves behind.

    Other test processes may run at the same time: only what this one started or made is looked at.
    """

    pids: frozenset[int]
    threads: frozenset[int]
    fifos: frozenset[str]
    folders: frozenset[Path]

    @classmethod
    def now(cls) -> Scene:
        return cls(
            frozenset(psutil.pids()),
            frozenset(id(thread) for thread in threading.enumerate()),
            frozenset(_open_fifos()),
            frozenset(_temporary_files()),
        )

    def leftovers(self, places: Iterable[Path] = ()) -> list[str]:
        """Return a line for everything that exists now and did not at the moment of this scene.

        ``places`` are the folders in which the test made its spools. They may stay, but the shared memory of a spool
        in one of them must be gone.
        """
        return [
            *(f"process {_described(process)}" for process in self.processes(places)),
            *(f"thread {thread.name}" for thread in self._threads()),
            *(f"open FIFO {fifo}" for fifo in sorted(_open_fifos() - self.fifos)),
            *(f"file {path}" for path in sorted(_temporary_files() - self.folders)),
            *(f"shared memory {path}" for path in _shared_memory_of(places)),
        ]

    def processes(self, places: Iterable[Path] = ()) -> list[psutil.Process]:
        """Return the processes of this test run that did not exist at the moment of this scene."""
        paths = [str(place) for place in places]
        return [process for process in _alive(set(psutil.pids()) - self.pids) if _is_ours(process, paths)]

    def _threads(self) -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            # A dummy stands for a thread that threading did not start; it is never taken off the list.
            if id(thread) not in self.threads and not isinstance(thread, threading._DummyThread)
        ]


def collect() -> None:
    """Collect garbage, so that it is not reported as left behind."""
    gc.collect()


def _alive(pids: set[int]) -> Iterator[psutil.Process]:
    for pid in sorted(pids):
        with contextlib.suppress(psutil.Error):
            yield psutil.Process(pid)


def _is_ours(process: psutil.Process, paths: list[str]) -> bool:
    """A child (a zombie too), a descendant that inherited the mark, or a shipper process of one of the folders."""
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        if any(helper in command for helper in HELPERS):
            return False
        if process.ppid() == os.getpid():
            return True
        if "shipper:" in command and any(path in command for path in paths):
            return True
        return process.environ().get(MARK) == os.environ.get(MARK, "")
    return False


def _described(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline())}"
    return str(process.pid)


def _open_fifos() -> set[str]:
    """FIFOs and pipes that this process holds open, named as in /proc; those of multiprocessing are left out."""
    kept = {
        getattr(resource_tracker._resource_tracker, "_fd", None),
        getattr(forkserver._forkserver, "_forkserver_alive_fd", None),
    }
    names = set()
    for entry in os.listdir("/dev/fd"):
        descriptor = int(entry)
        with contextlib.suppress(OSError):
            found = os.fstat(descriptor)
            if stat.S_ISFIFO(found.st_mode) and descriptor not in kept:
                names.add(f"{descriptor} -> {_target(descriptor, found)}")
    return names


def _target(descriptor: int, found: os.stat_result) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return f"inode {found.st_ino}"


def _temporary_files() -> set[Path]:
    """Return the paths of everything directly in the temporary directory."""
    return set(Path(tempfile.gettempdir()).iterdir())


def _shared_memory_of(places: Iterable[Path]) -> Iterator[Path]:
    """The folders of shared memory of all spools that could lie in ``places``.

    An empty one is not left over, nor is one with nothing but pipe mirrors: a shipper process that was killed could not
    remove it, and the next one does.
    """
    for place in places:
        for folder, _, _ in os.walk(place):
            memory = Path(Spool(folder).overflow)
            if memory.parent != Path(folder) and _has_files(memory):
                yield memory


def _has_files(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(path.suffix != pipe_mirror.SUFFIX for path in folder.iterdir())
    return False
