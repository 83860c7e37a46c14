"""The tests' own helpers: what a test leaves over is found, and a test marked `alone` runs alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from shipper.spool.layout import Spool
from shipper.transport.memory.shared_file import prepare_folder

from .support.leftovers import Scene
from .support.turns import Turns
from .support.waiting import PATIENCE, holds, wait_until


def test_nothing_is_left_over_when_nothing_happened(spool: Path) -> None:
    assert Scene.now().leftovers([spool]) == []


def test_a_process_that_goes_on_is_left_over() -> None:
    before = Scene.now()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        left = before.leftovers()
        process.communicate(b"\n", timeout=PATIENCE)

    assert [line.split()[:2] for line in left if line.startswith("process")] == [["process", str(process.pid)]]


def test_a_thread_that_goes_on_is_left_over() -> None:
    before = Scene.now()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="straggler")
    thread.start()

    left = before.leftovers()
    release.set()
    thread.join()

    assert left == ["thread straggler"]


def test_a_temporary_file_is_left_over() -> None:
    before = Scene.now()
    fd, path = tempfile.mkstemp()
    os.close(fd)

    left = before.leftovers()
    os.unlink(path)

    assert left == [f"file {path}"]


def test_the_shared_memory_of_a_spool_is_left_over_where_it_is_the_tests_own(spool: Path) -> None:
    mine, others = spool / "mine" / "spool", spool / "others"
    others.mkdir()
    mine.mkdir(parents=True)
    memory = Path(Spool(str(mine)).overflow)
    prepare_folder(str(memory))
    (memory / "overflow").touch()

    try:
        assert Scene.now().leftovers([spool / "mine"]) == [f"shared memory {memory}"]
        assert Scene.now().leftovers([others]) == []
    finally:
        (memory / "overflow").unlink()
        memory.rmdir()


def test_a_turn_alone_waits_for_all_others_and_they_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `Turns` stands for one test process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, two, alone = Turns(), Turns(), Turns()
    seen: list[str] = []

    def wait_for_turn(turns: Turns, name: str, *, is_alone: bool) -> None:
        with turns.taken(alone=is_alone):
            seen.append(name)

    waiting = threading.Thread(target=wait_for_turn, args=(alone, "alone"), kwargs={"is_alone": True})
    with one.taken(alone=False), two.taken(alone=False):
        waiting.start()
        assert not holds(lambda: seen, 0.1)
    waiting.join(PATIENCE)
    later = threading.Thread(target=wait_for_turn, args=(one, "shared"), kwargs={"is_alone": False})
    with alone.taken(alone=True):
        later.start()
        assert not holds(lambda: "shared" in seen, 0.1)
    wait_until(lambda: seen == ["alone", "shared"])
    later.join(PATIENCE)
    for turns in (one, two, alone):
        turns.close()
