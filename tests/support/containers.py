"""A container like that of `docker run`, made of namespaces; it takes the options that the documentation uses.

It has a root file system of its own, in which the Python that runs the tests and the host's programs are read-only, its
own /tmp, /dev/shm and PID namespace, and the host's network. Needs root.
"""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .needs import need
from .waiting import PATIENCE

_UNSHARE = ("unshare", "--pid", "--mount", "--fork", "--kill-child")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc")

# What `docker run --init` starts as PID 1: it passes signals on, reaps orphans, and ends with the program.
_INIT = """
import os, signal, sys
taken = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, taken)  # a handler would run too late for a signal just before the wait
child = os.fork()
if not child:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, taken)
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    number = signal.sigwait(taken)
    if number != signal.SIGCHLD:
        os.kill(child, number)
        continue
    while (ended := os.waitpid(-1, os.WNOHANG))[0]:
        if ended[0] == child:
            os._exit(os.waitstatus_to_exitcode(ended[1]) & 255)
"""


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("docker run", allow_abbrev=False)
    for flag in ("--rm", "--read-only", "--init", "--detach", "-d"):
        parser.add_argument(flag, action="store_true")
    for option in ("--user", "--shm-size", "--name", "--stop-timeout"):
        parser.add_argument(option)
    parser.add_argument("--tmpfs", action="append", default=[])
    parser.add_argument("--volume", "-v", action="append", default=[])
    parser.add_argument("--env", "-e", action="append", default=[])
    parser.add_argument("image")
    return parser


def need_containers() -> None:
    need(_possible(), "the right to make namespaces and mounts (root)")


@functools.cache
def _possible() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0


class Container:
    """``words`` are the arguments of ``docker run``; ``folder`` keeps the named volumes and the root's mount point.

    ``readable``: folders of the host that are part of the image. ``shm``: False for a system without /dev/shm.
    """

    def __init__(self, words: Sequence[str], folder: Path, readable: Sequence[Path], *, shm: bool = True) -> None:
        need_containers()
        self._said = _options().parse_args(list(words))
        self._folder = folder
        self._shm = shm
        interpreter = [sys.prefix, sys.base_prefix, *(path for path in sys.path if os.path.isdir(path))]
        places = {os.path.realpath(path) for path in (*interpreter, *map(str, readable))}
        self._readable = sorted(place for place in places if not place.startswith(("/usr/", "/etc/")))
        self.stop_timeout = float(self._said.stop_timeout or 10)

    def volume(self, name: str) -> Path:
        """A named volume's folder on the host; it outlives the container."""
        path = self._folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Run the command as the container's program."""
        said = dict(each.split("=", 1) for each in self._said.env)
        defaults = {"PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8"}
        program = [*([sys.executable, "-c", _INIT] if self._said.init else []), *command]
        return subprocess.Popen(
            [*_UNSHARE, "sh", "-euc", self._script(program)],
            env={**defaults, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **said, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, which ends all processes in the container too."""
        process = self.start(command, environment)
        try:
            output, _ = process.communicate(timeout=2 * PATIENCE)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def _script(self, program: Sequence[str]) -> str:
        root = shlex.quote(str(self._folder / "root"))
        lines = [
            f"mkdir -p {root}",
            f"mount -t tmpfs -o mode=755 image {root}",
            f"mkdir -p {root}/proc {root}/dev {root}/tmp {root}/var/tmp",
            f"chmod 1777 {root}/tmp {root}/var/tmp",
            f"mount -t proc proc {root}/proc",
            *self._tmpfs(root),
            *(f"if [ -L {each} ]; then cp -P {each} {root}{each}; else {_bound(root, each)}; fi" for each in _SYSTEM),
            *(_bound(root, each) for each in self._readable),
            *(
                f"touch {root}/dev/{each} && mount --bind /dev/{each} {root}/dev/{each}"
                for each in ("null", "zero", "random", "urandom")
            ),
            f"ln -s /proc/self/fd {root}/dev/fd",
            *self._memory(root),
            *self._volumes(root),
        ]
        if self._said.read_only:
            lines.append(f"mount -o remount,bind,ro {root}")
        user = f"--userspec={self._said.user}" if self._said.user else ""
        return "\n".join((*lines, f"exec chroot {user} {root} {shlex.join(program)}"))

    def _tmpfs(self, root: str) -> list[str]:
        places = [each.partition(":")[0] for each in self._said.tmpfs]
        return [f"mkdir -p {root}{place} && mount -t tmpfs -o mode=1777 tmpfs {root}{place}" for place in places]

    def _memory(self, root: str) -> list[str]:
        if not self._shm:
            return []
        size = self._said.shm_size or "64m"
        return [f"mkdir {root}/dev/shm && mount -t tmpfs -o mode=1777,size={size} shm {root}/dev/shm"]

    def _volumes(self, root: str) -> list[str]:
        lines = []
        for each in self._said.volume:
            name, place = each.split(":")[:2]
            source = shlex.quote(str(self.volume(name)))
            lines += [f"mkdir -p {root}{place}", f"mount --bind {source} {root}{place}"]
            if self._said.user:  # a volume that is mounted for the first time gets the owner of the image's folder
                lines.append(f"chown {self._said.user} {root}{place}")
        return lines


def stop(process: subprocess.Popen[str], timeout: float) -> str:
    """Like ``docker stop``, send SIGTERM to PID 1, and SIGKILL to all after ``timeout`` seconds; return the output."""
    os.kill(_first_process(process), signal.SIGTERM)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
    return output


def _first_process(process: subprocess.Popen[str]) -> int:
    """Return the pid, on the host, of the container's PID 1."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def _bound(root: str, place: str) -> str:
    quoted = shlex.quote(place)
    where = f"{root}{quoted}"
    bound = f"mkdir -p {where}; mount --bind {quoted} {where}; mount -o remount,bind,ro {where}"
    return f"if [ -e {quoted} ]; then {bound}; fi"
