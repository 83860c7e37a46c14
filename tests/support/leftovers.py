"""What a test left behind: processes, threads, open FIFOs, folders."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import psutil

MARK = "TEST_RUN_MARK"
"""An environment variable that every process this test run starts, however indirectly, inherits."""

SHARED = Path("/dev/shm")
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""What multiprocessing keeps running until the interpreter ends."""


def mark_this_run() -> None:
    os.environ[MARK] = uuid.uuid4().hex


@dataclass(frozen=True)
class Scene:
    """What there is at one moment. Two of them tell what a test left behind."""

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
            frozenset(_folders()),
        )

    def leftovers(self, paths: tuple[str, ...] = ()) -> list[str]:
        """One line for everything that was not there in this scene; ``paths`` are folders that belong to the test."""
        return [
            *(f"process {_described(process)}" for process in self.processes(paths)),
            *(f"thread {thread.name}" for thread in self._threads()),
            *(f"open FIFO {fifo}" for fifo in sorted(_open_fifos() - self.fifos)),
            *(f"folder {folder}" for folder in sorted(_folders() - self.folders) if not _in_use_by_others(folder)),
        ]

    def processes(self, paths: tuple[str, ...] = ()) -> list[psutil.Process]:
        """The new processes that are ours."""
        return [process for process in _alive(set(psutil.pids()) - self.pids) if _is_ours(process, paths)]

    def _threads(self) -> list[threading.Thread]:
        return [
            thread
            for thread in threading.enumerate()
            # A dummy stands for a thread that threading did not start; it is never taken off the list.
            if id(thread) not in self.threads and not isinstance(thread, threading._DummyThread)
        ]


def collect() -> None:
    """Whatever only waits for the garbage collector is gone afterwards."""
    gc.collect()


def _alive(pids: set[int]) -> Iterator[psutil.Process]:
    for pid in sorted(pids):
        with contextlib.suppress(psutil.Error):
            yield psutil.Process(pid)


def _is_ours(process: psutil.Process, paths: tuple[str, ...] = ()) -> bool:
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


def _folders() -> set[Path]:
    """What is in the temporary directory, and in this user's folders of the shared memory.

    An empty one there is no left-over, nor is one with trails: a shipper process that was killed could not remove it,
    and the next one does.
    """
    overflows = {path for path in SHARED.glob(f"shipper-{os.getuid()}*/*") if not path.is_dir() or _has_files(path)}
    return {*Path(tempfile.gettempdir()).iterdir(), *overflows}


def _has_files(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(path.suffix != ".trail" for path in folder.iterdir())
    return False


def _in_use_by_others(folder: Path) -> bool:
    """Whether a process that is not of this run holds something open in a folder of the shared memory."""
    if SHARED not in folder.parents:
        return False
    return any(
        _holds_open(process.pid, folder) for process in psutil.process_iter() if not _is_ours(process, (str(folder),))
    )


def _holds_open(pid: int, folder: Path) -> bool:
    if pid == os.getpid():
        return False
    with contextlib.suppress(OSError):
        return any(_points_into(link, folder) for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _points_into(link: Path, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return folder in Path(os.readlink(link)).parents
    return False
