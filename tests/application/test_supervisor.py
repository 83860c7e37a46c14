"""The supervisor keeps one shipper process running."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest

from shipper import Spooling, Trakerr
from shipper.application.supervision.exit_watcher import CHECK_SECONDS, ProcessExitWatcher
from shipper.application.supervision.interpreter import find_interpreter
from shipper.application.supervision.launcher import ENCODER, ended_encoders, is_shipper_process
from shipper.application.supervision.supervisor import (
    CRASH_LOOP_PAUSE_SECONDS,
    CRASH_LOOP_STARTS,
    QUICK_EXIT_SECONDS,
    Supervisor,
    restart_pause,
)
from shipper.config.settings import Settings
from shipper.journal.segments import size_on_disk
from shipper.spool.files import open_file, write_atomically
from shipper.spool.layout import Spool
from shipper.spool.lock import LockInfo, running
from shipper.transport.memory.pipe_mirror import SUFFIX
from shipper.transport.queue import RecordQueue

from ..support.waiting import wait_until


@pytest.fixture
def place(spool: Path) -> Iterator[Spool]:
    made = Spool(str(spool))
    made.prepare()
    yield made
    if os.path.isdir(made.overflow):
        os.rmdir(made.overflow)


@pytest.fixture
def lock(place: Spool) -> Iterator[int]:
    """The lock file, locked by this test."""
    descriptor = open_file(place.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def settings(place: Spool, **more: object) -> Settings:
    return Settings((Trakerr("key", url="http://127.0.0.1:1"),), "test", place.path, python="/nonexistent", **more)  # type: ignore[arg-type]


def test_the_interpreter_is_the_setting_else_this_one() -> None:
    assert find_interpreter("/opt/python") == "/opt/python"
    assert find_interpreter("") == sys.executable


def test_a_wake_up_ends_the_wait_at_once() -> None:
    watcher = ProcessExitWatcher()
    began = monotonic()

    for _ in range(10):
        threading.Timer(0.05, watcher.wake).start()
        watcher.wait_for_exit(os.getppid())

    assert monotonic() - began < 10 * CHECK_SECONDS
    watcher.close()
    watcher.close()


def test_the_end_of_a_process_ends_the_wait() -> None:
    watcher = ProcessExitWatcher()
    began = monotonic()

    for _ in range(10):
        pid = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "0.1")
        watcher.wait_for_exit(pid)
        os.waitpid(pid, 0)

    assert monotonic() - began < 10 * CHECK_SECONDS
    watcher.close()


def test_the_pause_grows_with_the_number_of_processes_that_ended_at_once() -> None:
    pauses = [restart_pause(quick) for quick in range(CRASH_LOOP_STARTS + 1)]

    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-2], pauses[-1]) == (0.0, QUICK_EXIT_SECONDS, CRASH_LOOP_PAUSE_SECONDS)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"pid": "x", "started": [], "quick": null}', '{"pid": NaN}', "\x00\x01"]
)
def test_a_damaged_lock_file_keeps_no_process_from_starting(place: Spool, text: str) -> None:
    Path(place.lock).write_text(text)
    Path(place.lock).chmod(0o600)
    descriptor = open_file(place.lock, os.O_RDWR)

    assert LockInfo.read(descriptor) == LockInfo()
    assert Supervisor(settings(place))._may_start(descriptor)
    os.close(descriptor)


def test_only_a_shipper_process_is_signalled() -> None:
    assert not is_shipper_process(os.getpid())
    assert not is_shipper_process(0)
    assert not is_shipper_process(1)


def test_no_process_is_started_while_the_lock_is_held(place: Spool, lock: int) -> None:
    supervisor = Supervisor(settings(place))

    supervisor.begin()

    assert LockInfo.read(lock) == LockInfo()
    supervisor.stop()
    supervisor.stop()


def test_a_forked_child_does_not_keep_the_lock_of_a_process_that_is_gone(place: Spool) -> None:
    from shipper.application.supervision import supervisor

    descriptor = open_file(place.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    supervisor._open_locks.add(descriptor)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    supervisor._open_locks.discard(descriptor)
    os.close(descriptor)

    wait_until(lambda: running(place) is None, message="the lock to be free although the child lives")
    os.close(writing)
    os.waitpid(child, 0)


def test_the_pipes_content_is_journaled_when_no_process_can_be_started(place: Spool) -> None:
    queue = RecordQueue(place.queue, overflow=place.overflow)
    queue.put_nowait(b"precious")

    assert Supervisor(settings(place)).drain_pipe()

    queue.close()
    assert b"precious" in b"".join(path.read_bytes() for path in Path(place.journal).iterdir())


def test_what_the_quota_leaves_no_space_for_is_kept_in_memory_each_time_an_application_ends(place: Spool) -> None:
    spooling = Spooling(quota=65536, segment=16384)
    payloads = [f"precious {number:03} ".encode() * 200 for number in range(200)]

    for turn in range(4):
        queue = RecordQueue(place.queue, overflow=place.overflow)
        for payload in payloads[turn * 50 : turn * 50 + 50]:
            queue.put_nowait(payload)
        assert Supervisor(settings(place, spooling=spooling)).drain_pipe()
        queue.close()

    assert size_on_disk(place.journal) <= spooling.quota + spooling.segment
    files = [path for folder in (place.journal, place.overflow) for path in Path(folder).iterdir()]
    kept = b"".join(path.read_bytes() for path in files if not path.name.endswith(SUFFIX))
    assert [payload for payload in payloads if payload not in kept] == []
    for path in Path(place.overflow).iterdir():
        path.unlink()


def test_a_process_that_is_killed_before_it_begins_loses_nothing(place: Spool, tmp_path: Path) -> None:
    """The application ends too, so no process has the pipe open: its content is in the journal then."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    queue = RecordQueue(place.queue, overflow=place.overflow)
    queue.put_nowait(b"precious")
    supervisor = Supervisor(dataclasses.replace(settings(place), python=str(python)))

    supervisor.begin()
    supervisor.stop()
    queue.close()

    assert b"precious" in b"".join(path.read_bytes() for path in Path(place.journal).iterdir())


def test_what_is_saved_for_a_process_is_written_where_its_cursors_will_look(place: Spool, tmp_path: Path) -> None:
    """The journal is gone, and a cursor is at segment 7: the event is written to a new segment 7."""
    write_atomically(os.path.join(place.cursors, "trakerr.json"), {"segment": 7, "offset": 0})
    queue = RecordQueue(place.queue, overflow=place.overflow)
    queue.put_nowait(b"precious")

    assert Supervisor(settings(place)).drain_pipe()

    queue.close()
    assert [path.name.lstrip("0") for path in Path(place.journal).iterdir()] == ["7.seg"]


def test_the_pipe_is_left_to_a_process_that_runs(place: Spool, lock: int) -> None:
    assert not Supervisor(settings(place)).drain_pipe()


def test_encoder_processes_that_ended_with_a_killed_shipper_process_are_found(tmp_path: Path) -> None:
    """They become children of an application that is PID 1, which has to collect their exit status."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if not children.exists():
        pytest.skip("this kernel has no list of children")
    code = f"open('/proc/self/comm', 'w').write({ENCODER!r}); __import__('sys').stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.pid not in ended_encoders()

        child.stdin.close()

        wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE, 10, "its end")
        assert child.pid in ended_encoders()
    assert child.pid not in ended_encoders()
