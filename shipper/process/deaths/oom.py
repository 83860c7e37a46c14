"""What the kernel reports about processes that it killed because memory was short (the OOM killer).

The kernel's log names the process, but few users may read it, and its pids are not those that a container sees. Every
user can read the counter of the control group, which names no process.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator

KERNEL_LOG = "/dev/kmsg"
COUNTED_SECONDS = 10.0  # before a death is found: the kills in this time are reported with the death
MAX_LINES = 5  # of the kernel's log, about one process
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
_RECORD_BYTES = 8192
_RECORDS = 100_000  # more than the kernel's log holds
_COUNTER = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OomKiller:
    """Tells which processes the OOM killer has killed.

    ``read_counter`` returns how many of the control group it has killed so far, or None; ``read_log`` yields the
    records of the kernel's log.
    """

    def __init__(
        self,
        *,
        read_counter: Callable[[], int | None] | None = None,
        read_log: Callable[[], Iterator[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_counter = read_counter or read_counter_of_group
        self._read_log = read_log or read_kernel_log
        self._clock = clock
        self._counts: deque[tuple[float, int]] = deque()

    def look(self) -> None:
        """Note the counter. Called once a second."""
        count = self._read_counter()
        if count is None:
            return
        now = self._clock()
        while len(self._counts) > 1 and now - self._counts[1][0] > COUNTED_SECONDS:
            self._counts.popleft()
        self._counts.append((now, count))

    @property
    def kills(self) -> int:
        """How many processes of the control group were killed in about the last `COUNTED_SECONDS`."""
        return self._counts[-1][1] - self._counts[0][1] if self._counts else 0

    def trace(self, pid: int, started: int) -> list[str]:
        """Return the lines of the kernel's log about the kill of a process; none when the log can't be read.

        ``started``: when the process was started, in clock ticks since the boot; 0 (not known): nothing is returned.
        """
        if not started:
            return []
        since = started / os.sysconf("SC_CLK_TCK")
        about = re.compile(rf"(?:Killed|Kill|oom_reaper: reaped) process {pid}\b|oom-kill:.*\bpid={pid}\b")
        found = []
        for record in self._read_log():
            fields, _, text = record.partition(";")
            line = text.partition("\n")[0]
            if about.search(line) and _seconds(fields) >= since:
                found.append(line)
        return found[-MAX_LINES:]


def _seconds(fields: str) -> float:
    """When a record was made, in seconds after the boot."""
    try:
        return int(fields.split(",")[2]) / 1e6
    except (ValueError, IndexError):
        return 0.0


def read_kernel_log() -> Iterator[str]:
    """The records of the kernel's log; none if this user may not read it, or in another PID namespace."""
    with contextlib.suppress(OSError):
        if os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE:
            return
        fd = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for _ in range(_RECORDS):
                try:
                    yield os.read(fd, _RECORD_BYTES).decode(errors="replace")
                except BrokenPipeError:  # a record was overwritten meanwhile
                    continue
        except BlockingIOError:
            return
        finally:
            os.close(fd)


def read_counter_of_group() -> int | None:
    """How many processes of this process's control group the OOM killer has killed; None if that can't be read."""
    for path in _counter_paths():
        with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
            found = _COUNTER.search(file.read())
            if found is not None:
                return int(found[1])
    return None


def _counter_paths() -> Iterator[str]:
    """Files that may have the counter. In a container, the group's full path may not exist, but its root does."""
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, controllers, group = line.rstrip("\n").split(":", 2)
            if controllers == "":
                yield f"/sys/fs/cgroup{group}/memory.events"
            elif "memory" in controllers.split(","):
                yield f"/sys/fs/cgroup/memory{group}/memory.oom_control"
    yield "/sys/fs/cgroup/memory.events"
    yield "/sys/fs/cgroup/memory/memory.oom_control"
