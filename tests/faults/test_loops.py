"""Event loops that replace the standard library's threads: gevent, patched early, late or not, and eventlet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from ..support.needs import need
from ..support.waiting import PATIENCE, scaled, stop_process, wait_until
from .scene import Scene

BEFORE_IT = "import logging, shipper, shipper.transport.producer"
PATCHED = {
    "gevent early": ("gevent", "from gevent import monkey; monkey.patch_all()", "import gevent"),
    "gevent late": ("gevent", BEFORE_IT, "import gevent; from gevent import monkey; monkey.patch_all()"),
    "gevent not": ("gevent", "", "import gevent"),
    "eventlet early": ("eventlet", "import eventlet; eventlet.monkey_patch()", ""),
    "eventlet late": ("eventlet", BEFORE_IT, "import eventlet; eventlet.monkey_patch()"),
}  # fmt: skip

APP = """
    import warnings
    warnings.simplefilter("ignore")
    {before}
    import logging, sys, time
    import shipper
    {after}

    url, spool = sys.argv[1:]
    log = logging.getLogger("loop")
    log.propagate = False
    shipper.start(shipper.Trakerr("k", url=url, name="a", level=0, batch="array"), app="loop", spool=spool, logger=log)
    gaps = []

    def tick():
        last = time.perf_counter()
        while not done:
            {sleep}(0.002)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    def spin(number):
        for each in range(30):
            until = time.perf_counter() + 0.0003
            while time.perf_counter() < until:
                pass
            {sleep}(0)

    def work(number):
        for each in range(100):
            log.error("id:w%d-%d %s", number, each, "x" * 2000)
            if each % 2 == 0:
                {sleep}(0)

    done = False
    {spawn}(tick)
    for worker in [{spawn}(spin, number) for number in range(20)]:
        worker.{join}()
    machine = sorted(gaps)[len(gaps) * 98 // 100]
    gaps.clear()
    workers = [{spawn}(work, number) for number in range(20)]
    print("logging", flush=True)
    began = time.perf_counter()
    for worker in workers:
        worker.{join}()
    took = time.perf_counter() - began
    for _ in range(50):
        {sleep}(0.002)
    done = True
    print(took, max(gaps), machine, flush=True)
    sys.stdin.readline()
    log.error("id:fresh")
    report = shipper.stop(60)
    assert report.flushed and not report.dropped, report
    print("stopped", flush=True)
"""


@pytest.mark.parametrize("way", PATCHED)
def test_an_event_loop_keeps_its_pace_while_the_shipper_process_is_paused(
    scene: Scene, tmp_path: Path, way: str
) -> None:
    library, before, after = PATCHED[way]
    need(find_spec(library), f"{library} is not installed")
    words = {"before": before, "after": after, "sleep": f"{library}.sleep", "spawn": f"{library}.spawn"}
    code = textwrap.dedent(APP).format(**words, join="get" if library == "gevent" else "wait")
    # 20 workers put 4 MB: more than the pipe takes, so that the overflow and its helper thread are in use.
    scene.place.prepare()
    (tmp_path / "loop.py").write_text(f"import {library}\n{code}" if way.endswith("not") else code)
    pipe = subprocess.PIPE
    arguments = [sys.executable, str(tmp_path / "loop.py"), scene.oracle.url("a"), str(scene.spool)]
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) as app:
        assert app.stdin is not None
        assert app.stdout is not None
        stop_process(scene.pid)
        try:
            assert app.stdout.readline() == "logging\n"
            took, longest, machine = map(float, app.stdout.readline().split())
        finally:
            os.kill(scene.pid, signal.SIGCONT)
        app.stdin.write("on\n")
        app.stdin.close()
        assert app.stdout.readline() == "stopped\n"
        assert app.wait(PATIENCE) == 0

    assert took < scaled(5), "2,000 calls: each waited in the thread of the event loop"
    assert longest < scaled(0.5) + 10 * machine, "somebody waited in the thread of the event loop"
    wanted = {"fresh", *(f"w{number}-{each}" for number in range(20) for each in range(100))}
    wait_until(lambda: scene.oracle.accepted("a").keys() == wanted, 10)
    scene.ends()
