"""Disks that are full, read-only or broken; a process without descriptors or threads; a large backlog."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import resource
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import shipper
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.cursors.assembler import DEAD_WRITER
from shipper.journal.segments import segment_path
from shipper.journal.writer import Writer
from shipper.report import total
from shipper.transport import frame
from shipper.transport.memory.overflow import Overflow
from shipper.transport.queue import RecordQueue

from ..support.forks import in_a_child
from ..support.needs import need
from ..support.waiting import PATIENCE, pass_time, scaled, wait_until
from .oracle import Oracle, Step
from .scene import Scene, python_with

MIB = 1 << 20


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Make ``folder``, and mount a tmpfs there for the block."""
    need(os.geteuid() == 0, "root, to mount a small file system")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "none", str(folder)], check=False)
    need(done.returncode == 0, "the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "size=3m") as folder:
        yield folder


def _in_trouble(scene: Scene) -> bool:
    return bool(shipper.status().trouble)


def _everything_is_accounted_for(scene: Scene, *services: str) -> None:
    """emitted = delivered + dropped, as sets; nothing is left; the process has ended."""
    scene.a_fresh_record_flows(*services)
    report = scene.stop(PATIENCE)
    assert report.flushed
    scene.ends()
    lost = scene.gaps()
    assert total(report.dropped) == len(lost)
    for service in services:
        assert scene.missing(service) == lost
        assert not scene.oracle.accepted(service).keys() & lost
        scene.ids_are_the_same_at_every_retry(service)


@pytest.mark.parametrize("segment", [64 * 1024, 16 * MIB], ids=["many segments", "one that never gets full"])
def test_a_full_disk_holds_the_pipe_and_lets_go_without_a_restart(
    small_disk: Path, oracle: Oracle, segment: int
) -> None:
    oracle.down()
    with Scene(small_disk / "spool", oracle) as scene:
        (small_disk / "spool").mkdir(mode=0o700)
        scene.start(
            scene.trakerr("a", batch="array"),
            scene.jkool("b", batch="array"),
            spooling=shipper.Spooling(segment=segment, quota=1 << 30),
            overflow=512 * 1024,
        )
        pid = scene.pid
        while not _in_trouble(scene):
            scene.log_many(50, "x" * 900)
        while not total(shipper.status().dropped):  # the pipe, then the overflow
            scene.log_many(50, "x" * 900)
        errors = [scene.log("an error", logging.ERROR) for _ in range(50)]
        slowest = max(_seconds(scene) for _ in range(200))
        assert slowest < scaled(0.5)
        assert scene.process.memory_info().rss < 120 * MIB

        oracle.up()
        wait_until(lambda: not _in_trouble(scene), 20)
        assert scene.pid == pid
        _everything_is_accounted_for(scene, "a", "b")
        assert oracle.accepted("a").keys() >= set(errors), "the last quarter of the overflow is for them"


def test_what_memory_had_no_room_for_is_taken_over_from_the_disk(scene: Scene) -> None:
    """The overflow of a killed process is in the spool, because memory had no room for it."""
    scene.place.prepare()
    payload = pack(Event(message="id:left", level=20))
    token = secrets.token_bytes(8)
    owner = Overflow(scene.place.overflow_on_disk, token=token, pid=2**22 + 1, limit=10**6)
    owner.append(frame.encode(payload, token=token, seq=0, pid=2**22 + 1, level=20), 20)
    owner.count("queue_full", 20)
    owner.close()

    scene.start(scene.trakerr("a"))

    wait_until(lambda: "left" in scene.oracle.accepted("a"), 10)
    wait_until(lambda: shipper.status().dropped == {"queue_full": {"INFO": 1}}, 10)
    scene.stop()
    scene.ends()
    assert not os.path.exists(scene.place.overflow_on_disk)


def _seconds(scene: Scene) -> float:
    before = time.monotonic()
    scene.log("x" * 900)
    return time.monotonic() - before


def test_a_disk_that_others_have_filled_loses_nothing_that_memory_holds(small_disk: Path, oracle: Oracle) -> None:
    with Scene(small_disk / "spool", oracle) as scene:
        (small_disk / "spool").mkdir(mode=0o700)
        scene.start(scene.trakerr("a"), spooling=shipper.Spooling(segment=64 * 1024))
        scene.a_fresh_record_flows("a")
        filling = small_disk / "others"
        _fill(filling)

        scene.log_many(300, "x" * 900)
        wait_until(lambda: scene.missing("a") == set() or _in_trouble(scene), 10)
        filling.unlink()

        scene.all_arrive("a")
        _everything_is_accounted_for(scene, "a")
        assert scene.gaps() == set()


@pytest.mark.parametrize("size", [900, 9000])
def test_what_a_full_disk_did_not_take_outlives_the_application_and_its_shipper_process(
    small_disk: Path, oracle: Oracle, size: int
) -> None:
    with Scene(small_disk / "spool", oracle) as scene:
        (small_disk / "spool").mkdir(mode=0o700)
        scene.start(scene.trakerr("a"), spooling=shipper.Spooling(segment=64 * 1024), grace=0.5)
        scene.a_fresh_record_flows("a")
        filling = small_disk / "others"
        _fill(filling)
        scene.log_many(300, "x" * size)
        wait_until(lambda: _in_trouble(scene), 10)  # not by the log, which is on the full disk
        oracle.down()
        scene.stop(0.5)
        scene.ends()
        filling.unlink()
        oracle.up()

        scene.start(scene.trakerr("a"), grace=0.5)
        scene.all_arrive("a")
        _everything_is_accounted_for(scene, "a")
        assert scene.gaps() == set()


def _the_pipe_of_an_app_that_has_ended(scene: Scene) -> int:
    scene.spool.mkdir(mode=0o700)
    scene.start(scene.trakerr("a"))
    scene.a_fresh_record_flows("a")
    scene.stop()
    scene.ends()
    return os.open(scene.place.queue, os.O_RDONLY | os.O_NONBLOCK)


def test_an_event_that_is_half_in_a_trail_and_half_in_an_overflow_survives_a_disk_that_is_full_at_the_start(
    small_disk: Path, oracle: Oracle
) -> None:
    """Its first frames were in the pipe when all was killed; the rest follows them, however many mirrors there are."""
    with Scene(small_disk / "spool", oracle) as scene:
        pipe = _the_pipe_of_an_app_that_has_ended(scene)
        for number in range(20):
            _killed_after_putting(scene, [f"small-{number}"], "x" * 9000)
        _killed_after_putting(scene, [f"large-{number}" for number in range(130)], "x" * 9000)
        os.close(pipe)
        filling = small_disk / "others"
        _fill(filling)
        scene.start(scene.trakerr("a"))
        scene.log("more")
        wait_until(lambda: _in_trouble(scene), 10)
        filling.unlink()

        scene.all_arrive("a")
        scene.stop()
        scene.ends()
        assert not os.path.exists(scene.place.overflow)


@pytest.mark.long
def test_an_event_that_is_half_in_the_journal_is_not_given_up_while_a_full_disk_has_no_room_for_the_rest(
    small_disk: Path, oracle: Oracle
) -> None:
    with Scene(small_disk / "spool", oracle) as scene:
        pipe = _the_pipe_of_an_app_that_has_ended(scene)
        _killed_after_putting(scene, ["split"], "x" * 9000)
        writer = Writer(scene.place.journal, segment_bytes=1 << 30)
        writer.splice(pipe, frame.MAX_FRAME)
        writer.close()
        os.close(pipe)
        filling = small_disk / "others"
        _fill(filling)
        scene.start(scene.trakerr("a"))
        scene.log("x" * 5000)
        wait_until(lambda: _in_trouble(scene), 10)
        pass_time(DEAD_WRITER + 2)
        assert not scene.backend("a").dropped
        filling.unlink()

        scene.all_arrive("a")


def _killed_after_putting(scene: Scene, names: list[str], text: str) -> None:
    """Kill a process that has put these events; with several names, its mirror sorts after those with one."""

    def life() -> None:
        queue = RecordQueue(scene.place.queue, overflow=scene.place.overflow)
        while (queue.token[0] < 0xF0) == (len(names) > 1):
            queue = RecordQueue(scene.place.queue, overflow=scene.place.overflow)
        for name in names:
            queue.put_nowait(pack(Event(message=f"id:{name} {text}", level=logging.INFO)), level=logging.INFO)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(life) == -signal.SIGKILL
    scene.emitted.update(dict.fromkeys(names, logging.INFO))


def _log_says(scene: Scene, text: str) -> bool:
    return text in (scene.spool / "shipper.log").read_text()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def test_a_dead_letter_waits_for_room(small_disk: Path, oracle: Oracle) -> None:
    with Scene(small_disk / "spool", oracle) as scene:
        (small_disk / "spool").mkdir(mode=0o700)
        oracle.always("a", Step(400, contains="poison"))
        scene.start(scene.trakerr("a"))
        scene.a_fresh_record_flows("a")
        filling = small_disk / "others"
        _fill(filling)
        poison = scene.log("poison" + "x" * 9000)
        wait_until(lambda: oracle.received("a")[poison] >= 1 or _in_trouble(scene), 10)
        assert scene.dead("a") == []
        filling.unlink()

        wait_until(lambda: [letter["status"] for letter in scene.dead("a")] == [400], 10)
        scene.all_arrive("a")
        scene.a_fresh_record_flows("a")


def test_a_file_system_without_inodes_loses_nothing(tmp_path: Path, oracle: Oracle) -> None:
    with mounted(tmp_path / "disk", "size=20m,nr_inodes=60") as disk, Scene(disk / "spool", oracle) as scene:
        (disk / "spool").mkdir(mode=0o700)
        scene.start(scene.trakerr("a", batch="array"), spooling=shipper.Spooling(segment=64 * 1024))
        scene.a_fresh_record_flows("a")
        taken = []
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (disk / str(number)).touch()
                taken.append(disk / str(number))

        scene.log_many(400, "x" * 900)  # several segments
        for path in taken:
            path.unlink()

        scene.all_arrive("a")
        _everything_is_accounted_for(scene, "a")
        assert scene.gaps() == set()


BROKEN_DISK = """
    import os
    real = {name: getattr(os, name) for name in ("splice", "write", "pwrite", "replace", "ftruncate", "fsync")}

    def broken(name):
        def call(*arguments, **options):
            try:
                with open(os.path.join(HERE, "errno")) as file:
                    number = int(file.read())
            except (OSError, ValueError):
                number = 0
            if number and not (name == "write" and arguments[0] == 2):
                raise OSError(number, os.strerror(number))
            return real[name](*arguments, **options)
        return call

    for each in real:
        setattr(os, each, broken(each))
"""


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.EROFS, errno.ESTALE, errno.EFBIG])
def test_a_disk_that_takes_nothing_holds_everything_up_and_loses_nothing(
    scene: Scene, tmp_path: Path, number: int
) -> None:
    python = python_with(tmp_path / "python", BROKEN_DISK)
    scene.start(scene.trakerr("a"), scene.jkool("b"), python=python, spooling=shipper.Spooling(fsync=0.1))
    scene.log_many(50)
    scene.all_arrive("a", "b")
    pid = scene.pid

    (tmp_path / "python" / "errno").write_text(str(number))
    scene.log_many(300)
    wait_until(lambda: _log_says(scene, os.strerror(number)), 10)
    (tmp_path / "python" / "errno").unlink()

    scene.all_arrive("a", "b")
    assert scene.pid == pid
    _everything_is_accounted_for(scene, "a", "b")
    assert scene.gaps() == set()


@pytest.mark.parametrize("limit", [16 * 1024, 100_000, 1_000_000])
def test_a_limit_on_file_sizes_only_makes_more_segments(scene: Scene, limit: int) -> None:
    scene.start(scene.trakerr("a"))
    scene.log_many(50)
    scene.all_arrive("a")
    pid = scene.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, limit))

    scene.log_many(1200, "x" * 900)
    scene.log("y" * 100_000)

    scene.all_arrive("a")
    scene.a_fresh_record_flows("a")
    assert scene.pid == pid
    _everything_is_accounted_for(scene, "a")
    scene.ids_are_the_same_at_every_retry("a")


def test_a_shipper_process_without_descriptors_goes_on_reading_and_recovers(scene: Scene) -> None:
    scene.start(scene.trakerr("a"), scene.jkool("b"), spooling=shipper.Spooling(segment=64 * 1024))
    scene.log_many(50)
    scene.all_arrive("a", "b")
    pid = scene.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    scene.oracle.drop()

    scene.log_many(300, "x" * 900)
    journal = scene.spool / "journal"
    wait_until(lambda: sum(path.stat().st_size for path in journal.iterdir()) > 200_000, 10, "the pipe to be read")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    scene.all_arrive("a", "b")
    _everything_is_accounted_for(scene, "a", "b")
    assert scene.gaps() == set()


NO_THREADS = """
    import os, _thread, threading
    real = _thread.start_new_thread

    def start(*arguments, **options):
        if os.path.exists(os.path.join(HERE, "none")):
            raise RuntimeError("can't start new thread")
        return real(*arguments, **options)

    _thread.start_new_thread = _thread.start_new = start
    threading._start_new_thread = start
    if hasattr(threading, "_start_joinable_thread"):
        joinable = threading._start_joinable_thread

        def start_joinable(*arguments, **options):
            if os.path.exists(os.path.join(HERE, "none")):
                raise RuntimeError("can't start new thread")
            return joinable(*arguments, **options)

        threading._start_joinable_thread = start_joinable
"""


def test_a_shipper_process_that_gets_no_thread_loses_nothing_and_recovers(scene: Scene, tmp_path: Path) -> None:
    python = python_with(tmp_path / "python", NO_THREADS)
    scene.start(scene.trakerr("a", max_in_flight=8), scene.jkool("b"), python=python)
    scene.a_fresh_record_flows("a", "b")
    (tmp_path / "python" / "none").touch()
    scene.oracle.script("a", [Step(delay=0.02, times=200)])  # so slow that the deliverer wants threads

    scene.log_many(100)
    os.kill(scene.pid, 9)
    scene.log_many(100)
    wait_until(lambda: _log_says(scene, "can't start new thread"), 10)
    (tmp_path / "python" / "none").unlink()

    scene.all_arrive("a", "b")
    _everything_is_accounted_for(scene, "a", "b")


@pytest.mark.parametrize(
    "size", [24 * MIB, pytest.param(200 * MIB, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_backlog_at_the_start_is_delivered_in_little_memory(
    scene: Scene, size: int, record_property: Callable[[str, object], None]
) -> None:
    count = _write_backlog(scene, size)
    scene.start(scene.trakerr("a", batch="array", compress=False))
    wait_until(lambda: scene.oracle.accepted_count("a") > 0, 30)

    before = time.monotonic()
    error = scene.log("an error behind the backlog", logging.ERROR)
    most = 0
    deadline = before + 60 + size / MIB
    while scene.backend("a").left or scene.missing("a"):
        assert time.monotonic() < deadline, scene.backend("a")
        with contextlib.suppress(psutil.Error):
            most = max(most, scene.process.memory_info().rss)
    arrived = next(each.at for each in scene.oracle.requests("a") if error in each.names)
    record_property("seconds until a new error arrived behind the backlog", round(arrived - before, 2))
    print(f"{count} events, {most / MIB:.0f} MiB, a new error took {arrived - before:.2f} s")

    assert most < 150 * MIB
    assert scene.oracle.accepted_count("a") == count + 1
    scene.a_fresh_record_flows("a")


def test_a_new_error_does_not_wait_for_the_backlog(scene: Scene) -> None:
    count = _write_backlog(scene, 40 * MIB)
    scene.oracle.always("a", Step(delay=0.3))
    scene.start(scene.trakerr("a", batch="array", compress=False))
    wait_until(lambda: scene.oracle.accepted_count("a") > 1500, 30)  # a round and more: the backend takes events

    scene.log("an info behind the backlog")
    error = scene.log("an error behind the backlog", logging.ERROR)
    wait_until(lambda: error in scene.oracle.accepted("a"), 10)
    before = scene.oracle.accepted_count("a")
    scene.oracle.always("a")

    assert before < count / 2
    scene.all_arrive("a", timeout=60)
    wait_until(lambda: not scene.backend("a").left, 60)
    assert scene.backend("a").delivered == count + 2
    assert scene.oracle.accepted_count("a") == count + 2


def _write_backlog(scene: Scene, size: int) -> int:
    """Write undelivered events, ``size`` bytes rounded up to whole segments of 16 MiB; return how many."""
    scene.place.prepare()
    (scene.spool / "cursors" / "a.json").write_text('{"segment":1,"offset":0,"base":0,"counts":{},"dropped":{}}')
    (scene.spool / "cursors" / "a.json").chmod(0o600)
    token = secrets.token_bytes(8)
    seq = 0
    for number in range(1, 2 + size // (16 * MIB)):
        path = segment_path(str(scene.spool / "journal"), number)
        with open(path, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            while file.tell() < min(size, 16 * MIB):
                payload = pack(Event(message=f"old{seq} {'x' * 3000}", level=20, time=time.time()))
                file.writelines(frame.encode(payload, token=token, seq=seq, pid=1, level=20))
                seq += 1
    return seq
