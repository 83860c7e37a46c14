"""Whether the end of this process may be the end of its container, in which the kernel then kills every process."""

from __future__ import annotations

import os

_HOST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h
_INIT_SYSTEMS = frozenset({"systemd", "init", "runit", "s6-svscan", "openrc-init", "busybox-init", "launchd"})


def ends_with_this_process() -> bool:
    """Whether this process, or an ancestor in its PID namespace, is PID 1 of a container that runs one program.

    False on a host, in a container with an init system, and for what `docker exec` starts, which has no such ancestor.
    """
    try:
        if os.readlink("/proc/self/ns/pid") == _HOST_PID_NAMESPACE or _read("/proc/1/comm").strip() in _INIT_SYSTEMS:
            return False
        pid = os.getpid()
        while pid > 1:
            pid = int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):  # no /proc, or one of another namespace
        return os.getpid() == 1
    return pid == 1


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
