"""One spool that several hosts or containers share: every event arrives, once, and no journal has two writers.

Namespaces stand for hosts: each has a PID namespace, a /dev/shm and a FIFO of its own. Where locks are local to a host,
so is the lock file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.spool.layout import Spool
from shipper.spool.lock import running

from ..support.apps import App
from ..support.needs import need
from ..support.servers import Server
from ..support.waiting import wait_until

WORK = """
begin()
for n in range({count}):
    log.info("{name} %d{padding}", n)
    {pause}
while {wait} and not os.path.exists("{folder}/end"):
    time.sleep(0.05)
report = shipper.stop(30)
print(report.flushed, dict(report.dropped), report.waiting)
"""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    allowed = shutil.which("unshare") and subprocess.run(["unshare", "-mp", "-f", "true"], check=False).returncode == 0
    need(os.geteuid() == 0 and allowed, "the right to make namespaces")
    place = spool / "shared"
    Spool(str(place)).prepare()
    with Server() as server:
        yield App(server, place, tmp_path)
        for each in (place, *(place / "hosts").glob("*")):
            wait_until(lambda each=each: running(Spool(str(each))) is None, 30, "the end of the shipper process")  # type: ignore[misc]


def started(
    app: App,
    name: str,
    own: tuple[str, ...],
    count: int,
    *,
    shm: str = "mount -t tmpfs tmpfs /dev/shm",
    wait: bool = False,
    padding: int = 0,
) -> subprocess.Popen[str]:
    """Start a host with parts ``own`` of the spool to itself, or, with ``shm=""``, a container with this /dev/shm."""
    script = [shm or "true"]
    for each in own:
        path = app.folder / f"{each}-{name}"
        if each == "lock":
            path.touch(0o600)
            (app.spool / each).touch(0o600)
        else:
            os.mkfifo(path, 0o600)
        script.append(f"mount --bind {path} {app.spool}/{each}")
    pause = "pass" if padding else "time.sleep(0.01)"
    text = WORK.format(name=name, count=count, pause=pause, wait=wait, folder=app.folder, padding="." * padding)
    source = app.write(text, f"{name}.py")
    script.append(f"{sys.executable} {source}")
    return subprocess.Popen(
        ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", " && ".join(script)],
        env=app.environment,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "own", [("queue", "joins"), ("queue", "joins", "lock")], ids=["locks are shared", "locks are local"]
)
def test_hosts_that_share_a_spool_do_not_share_a_journal(app: App, own: tuple[str, ...]) -> None:
    """The second starts at the same time as the first, the third when both have ended."""
    both = [started(app, name, own, 200) for name in ("A", "B")]
    said = [process.communicate(timeout=90)[0] for process in both]
    third = started(app, "C", own, 50).communicate(timeout=60)[0]

    assert [*said, third] == ["True {} 0\n"] * 3
    app.wait_for(*(f"{name} {n}" for name in "AB" for n in range(200)), *(f"C {n}" for n in range(50)))
    assert set(Counter(app.ids()).values()) == {1}
    assert list((app.spool / "damaged").iterdir()) == []


def test_containers_of_one_host_use_one_process(app: App) -> None:
    """They see the same queue. The shipper process in one does not adopt the overflow of a process in the other."""
    first = started(app, "A", (), 2, shm="", wait=True)
    app.wait_for("A 0", timeout=60)
    second = started(app, "B", (), 3000, shm="", padding=2000)
    out = second.communicate(timeout=120)[0]
    (app.folder / "end").touch()
    first.communicate(timeout=60)

    assert out == "True {} 0\n"
    app.wait_for(*(f"B {n}" + "." * 2000 for n in range(3000)), timeout=60)
    assert set(Counter(app.ids()).values()) == {1}
    assert not (app.spool / "hosts").exists()


def test_mirrors_of_killed_containers_are_removed_in_time(app: App) -> None:
    first = started(app, "A", (), 2, shm="", wait=True)
    app.wait_for("A 0", timeout=60)
    for number in range(3):
        job = started(app, f"J{number}", (), 10_000, shm="")
        app.wait_for(f"J{number} 5", timeout=60)
        job.kill()
        job.communicate()

    memory = Path(Spool(str(app.spool)).overflow)
    wait_until(lambda: len(list(memory.iterdir())) == 1, 60, "the mirrors of the dead to be removed")
    (app.folder / "end").touch()
    first.communicate(timeout=60)
