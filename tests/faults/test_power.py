"""A power cut: only the synced bytes of each segment are left, and other files may be old, empty or missing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

import shipper
from shipper.spool.lock import read_pid

from ..support.waiting import stop_process, wait_until
from .scene import Scene, python_with

INTERVAL = 0.2

REMEMBER_SYNCED = """
    import json, os
    real = os.fsync

    def fsync(fd):
        size = os.fstat(fd).st_size
        real(fd)
        line = json.dumps([os.readlink(f"/proc/self/fd/{fd}"), size]) + "\\n"
        log = os.open(os.path.join(HERE, "synced"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(log, line.encode())
        os.close(log)

    os.fsync = fsync
"""

BEGINNING = '{"segment": 1, "offset": 0, "base": -1, "counts": {}, "dropped": {}}'


@pytest.mark.parametrize("others", ["as they were", "empty", "as they began"])
def test_what_was_synced_is_delivered_after_a_power_cut(scene: Scene, tmp_path: Path, others: str) -> None:
    scene.oracle.down()
    python = python_with(tmp_path / "python", REMEMBER_SYNCED)
    small = shipper.Spooling(fsync=INTERVAL, segment=64 * 1024)
    scene.start(scene.trakerr("a", batch="array"), python=python, spooling=small)
    assert scene.pid
    logged: list[tuple[float, str]] = []
    until = time.monotonic() + 2
    while time.monotonic() < until:
        logged.append((time.monotonic(), scene.log("x" * 300)))
        wait_until(lambda: time.monotonic() >= logged[-1][0] + 0.002)
    cut = _stop_dead(scene)

    _keep_what_was_synced(scene, tmp_path / "python" / "synced", others)
    scene.oracle.up()
    scene.start(scene.trakerr("a", batch="array"), spooling=small)

    safe = {name for at, name in logged if at < cut - INTERVAL - 0.5}
    assert len(safe) > 20
    wait_until(lambda: scene.oracle.accepted("a").keys() >= safe, 10, "what was logged long before the cut")
    scene.a_fresh_record_flows("a")
    scene.ids_are_the_same_at_every_retry("a")


def _stop_dead(scene: Scene) -> float:
    """End everything at once, with the pipe and the shared memory; return when, as `time.monotonic`."""
    pid = scene.pid
    cut = time.monotonic()
    stop_process(pid)
    shipper.stop(0)
    os.kill(pid, signal.SIGKILL)
    scene.ends()
    assert read_pid(scene.place)
    folder = Path(scene.place.overflow)
    for path in folder.glob("*"):
        path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return cut


def _keep_what_was_synced(scene: Scene, record: Path, others: str) -> None:
    synced = dict(json.loads(line) for line in record.read_text().splitlines())
    for path in (scene.spool / "journal").iterdir():
        kept = synced.get(str(path))
        if kept is None:
            path.unlink()
        else:
            os.truncate(path, kept)
    if others == "as they were":
        return
    for path in (scene.spool / "ledger.json", scene.spool / "status.json"):
        if others == "empty":
            os.truncate(path, 0)
        else:
            path.unlink()
    (cursor,) = (scene.spool / "cursors").glob("*.json")
    # The cursor is synced only when it is made: after the cut, its file may be the first one, or empty.
    cursor.write_text("" if others == "empty" else BEGINNING)
