"""Which kernel this process runs on, and in which namespaces: pids, mounts and FIFOs mean the same only within them."""

from __future__ import annotations

import contextlib
import os


def boot_id() -> str:
    """The random id of the kernel's boot; the name of the host where there is none."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()
    return os.uname().nodename


def namespace(kind: str) -> int:
    """The inode of this process's namespace ("mnt", "pid"); 0 if unknown, or if /proc is of another PID namespace."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return 0
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return 0


def process_is_gone(pid: int, pids: int) -> bool:
    """Whether no process has this pid in the PID namespace `pids`; False if that is not this process's namespace."""
    return pids != 0 and pids == namespace("pid") and not os.path.exists(f"/proc/{pid}")
