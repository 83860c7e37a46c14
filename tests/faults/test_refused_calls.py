"""A filter refuses system calls (containers, systemd, gVisor): events arrive as on systems without these calls."""

from __future__ import annotations

import errno
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.needs import need
from ..support.servers import Server

REFUSE = '''
import ctypes, os, struct, sys

NUMBERS = {"memfd_create": 319, "splice": 275, "pidfd_open": 434, "eventfd2": 290, "sched_setscheduler": 144,
           "fallocate": 285, "madvise": 28, "fsync": 74, "link": 86}

def refuse(names, number):
    """Install a seccomp filter (x86-64) under which these calls fail with this error, here and in all children."""
    program = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    for name in names:
        program.append(struct.pack("HBBI", 0x15, 0, 1, NUMBERS[name]))
        program.append(struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | number))
    program.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))
    code = b"".join(program)
    held = ctypes.create_string_buffer(code, len(code))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
        sys.exit(77)

refuse(sys.argv[1].split(","), int(sys.argv[2]))
if len(sys.argv) > 3:
    os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
'''


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    (tmp_path / "refuse.py").write_text(REFUSE)
    need(platform.machine() == "x86_64", "x86-64")
    tried = subprocess.run([sys.executable, str(tmp_path / "refuse.py"), "madvise", "1"], check=False)
    need(tried.returncode != 77, "the right to filter system calls")
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end(30)


@pytest.mark.parametrize(
    ("calls", "error"),
    [
        ("memfd_create", errno.EPERM),
        ("memfd_create", errno.ENOSYS),
        ("splice", errno.EINVAL),
        ("splice", errno.EPERM),
        ("splice", errno.ENOSYS),
        ("fallocate", errno.EOPNOTSUPP),
        ("madvise", errno.EINVAL),
        ("fsync", errno.EINVAL),
        ("memfd_create,splice,pidfd_open,eventfd2,sched_setscheduler,fsync,link", errno.ENOSYS),
    ],
)
def test_every_event_arrives_once(app: App, tmp_path: Path, calls: str, error: int) -> None:
    source = app.write("""
        begin()
        for n in range(200):
            log.info("line %d %s", n, "." * 4000)
        print(shipper.stop(30).flushed)
    """)
    command = [sys.executable, str(tmp_path / "refuse.py"), calls, str(error), str(source)]

    done = subprocess.run(command, env=app.environment, capture_output=True, text=True, timeout=90)

    assert (done.stdout, done.stderr) == ("True\n", "")
    assert {message.rpartition(" ")[0] for message in app.messages()} == {f"line {n}" for n in range(200)}
    assert set(Counter(app.ids()).values()) == {1}
