"""A random life of a process: `python lives.py SEED STEPS FOLDER URL`.

Each step is one of those that processes go through: log, fork, exec, daemonise, close descriptors, drop privileges,
configure logging again, change folder or root, lose a part of the spool, lose the shipper process. Then it ends, in one
of the ways in which processes end.

In FOLDER each process writes `ledger/<pid>`: what it is about to log, that the call has returned, and how many events
it has dropped by then. The files that the application opens are in `files`; it writes only lines "mine" there.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import logging.config
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable

import shipper
from shipper.application.lifecycle import current
from shipper.spool.layout import Spool
from shipper.spool.lock import running

NOBODY = 65534
LOG = logging.getLogger("life")


class Life:
    """The state of one process, and its steps. A forked child goes on with a copy."""

    def __init__(self, seed: str, steps: int, folder: str, url: str) -> None:
        self.seed = seed
        self.steps = steps
        self.folder = folder
        self.url = url
        self.random = random.Random(seed)
        self.lock = threading.Lock()  # held while the application uses descriptors of its own
        self.count = 0
        self.generation = 0
        self.killed = 0  # pid of the last shipper process that was killed
        self.may_exec = True  # and may start, and sees the spool
        self.is_root = os.geteuid() == 0

    @property
    def spool(self) -> str:
        return f"{self.folder}/spool"

    # -- the ledger --------------------------------------------------------------------------------------------------

    def note(self, line: str) -> None:
        """Append a line to the process's file, opened for each line: a step may have closed all descriptors."""
        with self.lock:
            fd = os.open(f"{self.folder}/ledger/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.write(fd, f"{line}\n".encode())
            os.close(fd)

    def log(self) -> None:
        self.count += 1
        name = f"{self.seed}/{self.generation}/{os.getpid()}/{threading.get_native_id()}/{self.count}"
        self.note(f"+ {name}")
        size = self.random.choice([0, 0, 0, 100, 3000, 9000])
        LOG.log(self.random.choice([10, 20, 20, 30, 40]), "%s %s", name, "." * size)
        self.note(f"= {name} {self.dropped()}")

    def dropped(self) -> int:
        app = current()
        drops = {} if app is None else app.queue.drops
        return sum(sum(levels.values()) for levels in drops.values())

    # -- steps -------------------------------------------------------------------------------------------------------

    def start(self, grace: float = 30.0) -> None:
        shipper.start(shipper.Trakerr("key", url=self.url, level=0), app="lives", spool=self.spool, grace=grace)

    def start_again(self) -> None:
        """Start with the same settings, or with another ``grace``, for which the shipper process is replaced."""
        if self.may_exec:
            self.start(self.random.choice([30.0, 31.0]))

    def log_some(self) -> None:
        for _ in range(self.random.randrange(1, 20)):
            self.log()

    def log_in_threads(self) -> None:
        threads = [threading.Thread(target=self.log_some) for _ in range(3)]
        for thread in threads:
            thread.start()
        if self.random.random() < 0.3:
            self.note("# close_descriptors")
            self.close_descriptors()
        for thread in threads:
            thread.join()

    def fork(self) -> None:
        self._fork(os.fork)

    def fork_without_hooks(self) -> None:
        self._fork(lambda: int(ctypes.PyDLL(None).fork()), has_hooks=False)

    def _fork(self, fork: Callable[[], int], *, has_hooks: bool = True) -> None:
        pid = fork()
        if pid == 0:
            self.generation += 1
            self.log_some()
            if self.random.random() < 0.5:
                steps = [self.close_descriptors, self.drop_privileges, self.change_root, self.start_again]
                step = self.random.choice([*steps, self.delete_part] if has_hooks else steps[:1])
                self.note(f"# {step.__name__}")
                step()
                self.log_some()
            if has_hooks and self.random.random() < 0.5:
                sys.exit()
            self._end_hard()
        if self.random.random() < 0.5:
            self.log_some()
        self._wait_for(pid)

    def _wait_for(self, pid: int) -> None:
        """Wait for a child, and kill it after 10 s: one that was forked without hooks may wait for ever for the GIL."""
        deadline = time.monotonic() + 10
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                self.note("# kill a child that hangs")
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def exec(self) -> None:
        if self.may_exec:
            seed = f"{self.seed}e{self.steps}"
            os.execv(sys.executable, [sys.executable, __file__, seed, str(self.steps), self.folder, self.url])

    def daemonise(self) -> None:
        """Daemonise by a double fork; the first two processes end by `os._exit`, without exit hooks."""
        for _ in range(2):
            if os.fork():
                os._exit(0)
            self.generation += 1
            with contextlib.suppress(PermissionError):
                os.setsid()
        os.chdir("/")
        self.close_descriptors()

    def close_descriptors(self) -> None:
        with self.lock:
            os.closerange(3, 4096)
            for number in range(self.random.randrange(8)):
                fd = os.open(f"{self.folder}/files/{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
                os.write(fd, b"mine\n")

    def drop_privileges(self) -> None:
        """Become another user, but only while a shipper process runs.

        A child cannot mirror the pipe then: the folder in shared memory is the former user's.
        """
        if self.is_root and self._sees_shipper():
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            self.may_exec = self.is_root = False

    def configure_logging(self) -> None:
        if not self.may_exec:
            return
        if self.random.random() < 0.5:
            logging.basicConfig(force=True, level=0, handlers=[logging.NullHandler()])
        else:
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"level": "DEBUG"}})
        self.start()

    def restart(self) -> None:
        if self.may_exec:
            shipper.stop(20)
            self.start()

    def change_folder(self) -> None:
        os.chdir(self.random.choice(["/", self.folder]))

    def change_root(self) -> None:
        """Change the root, but only while a shipper process runs: the new one has no /dev/shm to mirror the pipe in."""
        if self.is_root and self._sees_shipper():
            os.chroot(self.folder)
            os.chdir("/")
            self.folder = ""
            self.may_exec = self.is_root = False

    def _sees_shipper(self) -> bool:
        """Whether a shipper process runs that was not killed; a killed one is replaced soon."""
        deadline = time.monotonic() + 10
        while (found := running(Spool(self.spool))) is None or found.pid in (0, self.killed):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def delete_part(self) -> None:
        """Delete one part of the spool, as a cleaner does; never the journal or a cursor."""
        if self.may_exec:
            parts = [
                "queue",
                "queue",
                "joins",
                "lock",
                "app",
                "dead",
                "damaged",
                "progress",
                "status.json",
                "host",
                "id",
            ]
            path = f"{self.spool}/{self.random.choice(parts)}"
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def kill_shipper(self) -> None:
        found = running(Spool(self.spool)) if self.may_exec else None
        if found is not None and found.pid > 1:
            self.killed = found.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)

    def pause(self) -> None:
        time.sleep(self.random.random() * 0.3)

    # -- its end -----------------------------------------------------------------------------------------------------

    def _end_hard(self) -> None:
        if self.random.random() < 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)

    def run(self) -> None:
        common = [self.log_some, self.log_some, self.log_in_threads, self.pause]
        rare = [
            self.fork,
            self.fork_without_hooks,
            self.exec,
            self.daemonise,
            self.close_descriptors,
            self.drop_privileges,
            self.configure_logging,
            self.restart,
            self.start_again,
            self.change_folder,
            self.change_root,
            self.delete_part,
            self.kill_shipper,
        ]
        self.start()
        while self.steps > 0:
            self.steps -= 1
            step = self.random.choice(common if self.random.random() < 0.5 else rare)
            self.note(f"# {step.__name__}")
            step()
        end = self.random.choice(["return", "exit", "kill", "kill both"])
        self.note(f"# {end}")
        if end == "kill both":
            self.kill_shipper()
        if end.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "exit":
            os._exit(0)


if __name__ == "__main__":
    os.umask(0)
    logging.getLogger().setLevel(logging.DEBUG)
    Life(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]).run()
