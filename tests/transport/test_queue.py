"""RecordQueue: a queue's methods, used by processes, threads and signal handlers, and what happens when it is full."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import queue
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.event.model import EventId
from shipper.transport import frame
from shipper.transport.pipe import grow_pipe
from shipper.transport.queue import RecordQueue

from ..support.forks import in_a_child
from ..support.waiting import PATIENCE, scaled, wait_until


@pytest.fixture
def overflow(spool: Path) -> Path:
    return spool / "overflow"


@pytest.fixture
def pipe(spool: Path, overflow: Path) -> Iterator[RecordQueue]:
    os.mkfifo(spool / "queue", 0o600)
    made = RecordQueue(str(spool / "queue"), overflow=str(overflow), overflow_size=400_000)
    made.open()
    yield made
    made.close()


def taken(pipe: RecordQueue, count: int) -> list[bytes]:
    return [pipe.get(timeout=PATIENCE) for _ in range(count)]


def fill(pipe: RecordQueue) -> int:
    """Put events until one has to wait in the overflow; return the number of events."""
    count = 0
    while not pipe.waiting:
        pipe.put_nowait(b"%06d" % count + b"." * 2000, level=20)
        count += 1
    return count


def rest(pipe: RecordQueue) -> list[bytes]:
    """Everything that is still in the overflow and in the pipe."""
    events: list[bytes] = []
    while pipe.waiting or not pipe.empty():
        with contextlib.suppress(queue.Empty):
            events.append(pipe.get(timeout=0.05))
    return events


def bare_fork() -> int:
    """Fork as uWSGI does: without running any of Python's hooks.

    Only for a process without other running threads (`no_drain_thread`). Anything else blocks CPython itself: a thread
    that waits for the interpreter's lock at that moment exists in the parent only, and the child, when it next gives up
    the lock, waits for that thread to take it.
    """
    return int(ctypes.PyDLL(None).fork())


@contextlib.contextmanager
def no_drain_thread(pipe: RecordQueue) -> Iterator[None]:
    """Let no thread empty the overflow meanwhile; start one afterwards."""
    pipe._channel._draining = True
    try:
        yield
    finally:
        pipe._channel._draining = False
        pipe._channel._start_draining()


def test_what_is_put_is_got_in_order(pipe: RecordQueue) -> None:
    for number in range(100):
        pipe.put(b"%d" % number)

    assert taken(pipe, 100) == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("size", [0, 1, frame.MAX_PAYLOAD, frame.MAX_PAYLOAD + 1, 262_144])
def test_an_event_of_any_size_passes(pipe: RecordQueue, size: int) -> None:
    pipe.put(b"x" * size)

    assert pipe.get(timeout=PATIENCE) == b"x" * size


def test_getting_from_an_empty_queue_raises_at_once_or_after_the_timeout(pipe: RecordQueue) -> None:
    with pytest.raises(queue.Empty):
        pipe.get_nowait()
    with pytest.raises(queue.Empty):
        pipe.get(block=False)
    began = time.monotonic()
    with pytest.raises(queue.Empty):
        pipe.get(timeout=0.05)
    assert 0.05 <= time.monotonic() - began < scaled(2)


def test_waiting_for_an_event_costs_no_processor_time(pipe: RecordQueue) -> None:
    began = time.process_time()

    with pytest.raises(queue.Empty):
        pipe.get(timeout=2.0)

    assert time.process_time() - began < 1.0


def test_qsize_in_a_writing_process_takes_no_event_from_the_reader(pipe: RecordQueue) -> None:
    pipe.put(b"event")
    reader = pickle.loads(pickle.dumps(pipe))

    assert pipe.qsize() == 0
    assert not pipe.empty()
    assert reader.get(timeout=PATIENCE) == b"event"
    assert pipe.empty()
    reader.close()


def test_qsize_in_the_reading_process_counts_what_is_there(pipe: RecordQueue) -> None:
    for number in range(3):
        pipe.put(b"%d" % number)

    assert pipe.get() == b"0"
    assert pipe.qsize() == 2
    assert not pipe.empty()
    assert taken(pipe, 2) == [b"1", b"2"]
    assert pipe.empty()


def test_damage_in_the_pipe_is_skipped(pipe: RecordQueue) -> None:
    """An incomplete frame before a valid one does not make the reader wait for its rest."""
    half = frame.encode(b"x" * 100, token=b"tokentok", seq=1, pid=1)[0][:54]
    writer = os.open(pipe.path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, half)
    os.close(writer)

    pipe.put(b"good")

    assert pipe.get(timeout=PATIENCE) == b"good"


def test_close_is_idempotent(pipe: RecordQueue) -> None:
    pipe.close()
    pipe.close()
    pipe.join_thread()
    pipe.cancel_join_thread()


def test_a_put_after_close_is_dropped_and_counted(pipe: RecordQueue) -> None:
    pipe.put(b"before")
    pipe.close()

    with pytest.raises(queue.Full, match="after_stop"):
        pipe.put_nowait(b"after", level=40)
    with pytest.raises(queue.Full, match="after_stop"):
        pipe.put(b"after")
    with pytest.raises(ValueError, match="closed"):
        pipe.get()

    assert pipe.emitted == 3
    assert pipe.drops == {"after_stop": {"ERROR": 1, "NOTSET": 1}}
    pipe._channel.overflow.close()


def overflows(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.suffix != ".trail"]


def test_no_put_is_lost_while_another_queue_takes_over(pipe: RecordQueue, spool: Path) -> None:
    """As when a process that logs calls start() with another ``overflow``."""
    put: list[bytes] = []
    stopped = threading.Event()

    def work() -> None:
        for number in range(5000):  # no more than the pipe takes
            if stopped.is_set():
                return
            queues[0].put_nowait(b"%d" % number)
            put.append(b"%d" % number)

    queues = [pipe]
    found: list[bytes] = []
    for turn in range(30):
        later = RecordQueue(str(spool / "queue"), overflow=str(spool / f"overflow{turn}"))
        later.open()
        stopped.clear()
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda enough=20 * turn: len(put) > enough)  # type: ignore[misc]
        queues[0].close(later)
        stopped.set()
        thread.join()
        assert queues[0].drops == {}
        assert not overflows(spool / f"overflow{turn - 1 if turn else ''}")
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(later.get_nowait())
        queues[0] = later
    later.close()

    assert Counter(found) == Counter(put)


def test_closing_releases_the_pipe_but_keeps_its_number(pipe: RecordQueue) -> None:
    """A thread that is about to write must not write to what the application opens next."""
    pipe.put(b"x")
    number = pipe._pipe.open()
    pipe.close()

    assert os.readlink(f"/proc/self/fd/{number}") == os.devnull
    assert not pipe._channel.write(b"late")


def test_a_collected_queue_closes_its_descriptor(pipe: RecordQueue) -> None:
    other = pickle.loads(pickle.dumps(pipe))
    other.put(b"x")
    number = other._pipe.open()

    del other
    gc.collect()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_closed_queue_that_nobody_has_waits_for_no_collection_to_close_it(pipe: RecordQueue, spool: Path) -> None:
    """An application that starts and stops again and again would run out of descriptors between two collections."""
    other = RecordQueue(pipe.path, overflow=str(spool / "memory"))
    other.put(b"x")
    number = other._pipe.open()
    other.close()

    gc.disable()
    try:
        del other
    finally:
        gc.enable()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_file_in_place_of_the_pipe_is_not_written_to(pipe: RecordQueue, spool: Path) -> None:
    (spool / "file").touch(0o600)
    other = RecordQueue(str(spool / "file"), overflow=str(spool / "overflow"))

    with pytest.raises(OSError, match="not a FIFO"):
        other.open()
    other.close()
    assert (spool / "file").read_bytes() == b""


def test_a_refused_pipe_size_is_no_error(spool: Path) -> None:
    """F_SETPIPE_SZ fails with EBADF here, as with EPERM for a user whose share of pipe memory is used up."""
    file = os.open(spool / "file", os.O_RDWR | os.O_CREAT)
    grow_pipe(file)
    os.close(file)


def write_some(pipe: RecordQueue, count: int) -> None:
    for number in range(count):
        pipe.put(b"%d" % number)
    pipe.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_queue_reaches_processes_of_every_start_method(pipe: RecordQueue, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    child = context.Process(target=write_some, args=(pipe, 50))
    child.start()
    child.join(PATIENCE)

    assert child.exitcode == 0
    assert taken(pipe, 50) == [b"%d" % number for number in range(50)]
    child.close()


@pytest.mark.parametrize("fork", [os.fork, bare_fork])
def test_a_forked_child_has_ids_of_its_own(pipe: RecordQueue, fork: Callable[[], int]) -> None:
    """With Python's fork hooks and without."""
    mine = [pipe.put_nowait(b"parent") for _ in range(9)]

    def work() -> None:
        ids = [pipe.put_nowait(b"child") for _ in range(10)]
        assert [id.seq for id in ids] == list(range(10))
        assert len({id.token for id in ids} | {mine[0].token}) == 2
        assert pipe.emitted == 10

    assert in_a_child(work, fork) == 0
    assert [id.seq for id in mine] == list(range(9))
    assert Counter(taken(pipe, 19)) == {b"parent": 9, b"child": 10}
    assert pipe.emitted == 9


def test_threads_that_put_first_after_a_bare_fork_share_one_identity(pipe: RecordQueue) -> None:
    pipe.put_nowait(b"parent")
    parents = pipe.token

    def work() -> None:
        ids: list[EventId] = []
        barrier = threading.Barrier(8)

        def first() -> None:
            barrier.wait()
            ids.extend(pipe.put_nowait(b"child") for _ in range(20))

        threads = [threading.Thread(target=first) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(id.seq for id in ids) == list(range(160))
        assert {id.token for id in ids} == {pipe.token} != {parents}

    assert in_a_child(work, bare_fork) == 0
    taken(pipe, 161)


@pytest.mark.parametrize("fork", [os.fork, bare_fork])
def test_a_child_does_not_send_what_waits_in_its_parents_overflow(pipe: RecordQueue, fork: Callable[[], int]) -> None:
    def work() -> None:
        assert pipe.waiting == 0

    with no_drain_thread(pipe):
        count = fill(pipe)
        assert in_a_child(work, fork) == 0
        assert pipe.waiting
    assert len({*taken(pipe, count)}) == count
    wait_until(lambda: not pipe.waiting)


def test_a_child_does_not_get_what_its_parent_has_read(pipe: RecordQueue) -> None:
    for number in range(5):
        pipe.put(b"%d" % number)
    pipe.get()

    def work() -> None:
        pipe.put(b"of the child")
        assert pipe.get(timeout=PATIENCE) == b"of the child"

    assert in_a_child(work) == 0
    assert taken(pipe, 4) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("fork", [os.fork, bare_fork])
def test_a_child_that_waits_for_space_does_not_touch_its_parents_overflow(
    pipe: RecordQueue, overflow: Path, fork: Callable[[], int]
) -> None:
    def work() -> None:
        os.read(pipe._pipe.open(), 500_000)
        pipe.put(b"child", timeout=PATIENCE)

    with no_drain_thread(pipe):
        count = fill(pipe)
        (file,) = overflow.iterdir()
        before = file.read_bytes()
        code = in_a_child(work, fork)
        after = file.read_bytes()

    assert code == 0
    assert after == before
    assert rest(pipe).count(b"%06d" % (count - 1) + b"." * 2000) == 1


@pytest.mark.parametrize("fork", [os.fork, bare_fork])
def test_a_child_that_closes_keeps_its_parents_files(
    pipe: RecordQueue, overflow: Path, spool: Path, fork: Callable[[], int]
) -> None:
    """What the parent put is still there when it is killed later."""
    parent = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    with no_drain_thread(parent):
        fill(parent)
        taken(parent, 10)
        assert parent.drain(time.monotonic() + PATIENCE)
        before = sorted(os.listdir(spool / "memory"))

        assert in_a_child(parent.close, fork) == 0

    assert len(before) == 2
    assert sorted(os.listdir(spool / "memory")) == before
    parent.close()


def test_a_child_forked_while_every_lock_is_held_logs_at_once(pipe: RecordQueue) -> None:
    fill(pipe)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with pipe._channel.overflow._lock:
            held.set()
            done.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(PATIENCE)

    def work() -> None:
        signal.alarm(60)
        pipe.put_nowait(b"child", level=40)
        pipe.drop("failed", 10)

    try:
        assert in_a_child(work) == 0
    finally:
        done.set()
        holder.join()
    rest(pipe)


def test_on_new_process_is_called_once(pipe: RecordQueue) -> None:
    told: list[int] = []
    pipe.on_new_process = lambda: told.append(os.getpid())

    def work() -> None:
        pipe.put_nowait(b"1")
        pipe.put_nowait(b"2")
        assert told == [os.getpid()]

    assert in_a_child(work) == 0
    assert told == []


def test_every_put_of_eight_threads_arrives_or_is_counted(pipe: RecordQueue) -> None:
    """Each once, and each thread's events in their order."""
    ids: list[list[int]] = [[] for _ in range(8)]
    lost = [0] * 8

    def put(which: int) -> None:
        for number in range(2000):
            try:
                ids[which].append(pipe.put_nowait(b"%d %d" % (which, number) + b"." * 300, level=10).seq)
            except queue.Full:
                lost[which] += 1

    threads = [threading.Thread(target=put, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    seen: list[bytes] = []
    while any(thread.is_alive() for thread in threads) or pipe.waiting or not pipe.empty():
        try:
            seen.append(pipe.get(timeout=0.1))
        except queue.Empty:
            continue
    for thread in threads:
        thread.join()

    assert pipe.emitted == 16_000
    assert sum(lost) == pipe.drops.get("queue_full", {}).get("DEBUG", 0)
    assert len(seen) + sum(lost) == 16_000
    assert len({seq for each in ids for seq in each}) == sum(map(len, ids)) == len(seen)
    for which in range(8):
        numbers = [int(event.split(b".")[0].split()[1]) for event in seen if event.startswith(b"%d " % which)]
        assert numbers == sorted(numbers)


def test_the_overflow_is_drained_in_order_by_a_thread_that_then_ends(pipe: RecordQueue) -> None:
    count = fill(pipe)
    assert any(thread.name == "shipper-overflow" for thread in threading.enumerate())

    seen = taken(pipe, count)

    assert [int(event[:6]) for event in seen] == list(range(count))
    wait_until(lambda: not any(thread.name == "shipper-overflow" for thread in threading.enumerate()))
    assert pipe.waiting == 0


def test_a_full_overflow_drops_low_levels_first_and_counts_them(pipe: RecordQueue) -> None:
    fill(pipe)
    refused: Counter[str] = Counter()
    for _ in range(400):
        for name, level in (("DEBUG", 10), ("WARNING", 30), ("ERROR", 40)):
            try:
                pipe.put_nowait(b"." * 1000, level=level)
            except queue.Full:
                assert pipe.full()
                refused[name] += 1
                if name != "DEBUG":
                    assert pipe.waiting > 400_000 - 1100
                else:
                    assert pipe.waiting > 300_000 - 1100

    assert 0 < refused["ERROR"] <= refused["WARNING"] + 1 < refused["DEBUG"]
    assert pipe.drops == {"queue_full": dict(refused)}
    assert pipe.waiting <= 400_000
    rest(pipe)


def test_a_blocking_put_waits_for_space_and_keeps_its_timeout(pipe: RecordQueue) -> None:
    fill(pipe)
    with contextlib.suppress(queue.Full):
        while True:
            pipe.put_nowait(b"." * 1000)
    began = time.monotonic()
    with pytest.raises(queue.Full):
        pipe.put(b"." * 2000, timeout=0.1)
    assert 0.1 <= time.monotonic() - began < scaled(2)

    reader = threading.Thread(target=lambda: [pipe.get(timeout=PATIENCE) for _ in range(600)])
    reader.start()
    pipe.put(b"last")
    reader.join()

    assert rest(pipe)[-1] == b"last"


def test_a_drain_keeps_its_deadline(pipe: RecordQueue) -> None:
    fill(pipe)

    assert not pipe.drain(time.monotonic() + 0.1)
    rest(pipe)
    assert pipe.drain(time.monotonic() + PATIENCE)


def test_closing_with_a_full_pipe_keeps_the_pipe_closed(pipe: RecordQueue) -> None:
    """The draining thread must not open it again: the shipper process would never see the end of file."""
    fill(pipe)

    pipe.close()

    wait_until(lambda: not any(thread.name == "shipper-overflow" for thread in threading.enumerate()))
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    assert pipe.path not in [os.readlink(link) for link in links if os.path.islink(link)]


def test_a_signal_handler_that_logs_inside_a_put_loses_nothing(pipe: RecordQueue) -> None:
    nested: list[EventId] = []
    pause = 0.0005

    def put_another(number: int, at: object) -> None:
        nested.append(pipe.put_nowait(b"nested", level=40))
        # Not periodic: on a slow machine it would interrupt itself until the stack is full.
        signal.setitimer(signal.ITIMER_REAL, pause)

    before = signal.signal(signal.SIGALRM, put_another)
    stop = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not stop.is_set() or pipe.waiting or not pipe.empty():
            try:
                seen.append(pipe.get(timeout=0.05))
            except queue.Empty:
                continue

    fill_count = fill(pipe)
    reader = threading.Thread(target=read)
    reader.start()
    signal.setitimer(signal.ITIMER_REAL, pause)
    put = 0
    try:
        deadline = time.monotonic() + PATIENCE
        while len(nested) < 200 and time.monotonic() < deadline:
            pipe.put(b"outer" + b"." * random.Random(put).randrange(6000), timeout=PATIENCE)
            put += 1
    finally:
        pause = 0  # a handler that runs from here on sets no further alarm
        signal.setitimer(signal.ITIMER_REAL, pause)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        reader.join()

    assert len(nested) >= 200
    kinds = Counter(event[:5] for event in seen)
    assert kinds[b"neste"] == len(nested)
    assert kinds[b"outer"] == put
    assert len(seen) == fill_count + put + len(nested)


def test_a_destructor_that_logs_during_a_put_loses_nothing(pipe: RecordQueue) -> None:
    class Logs:
        def __init__(self) -> None:
            self.me = self  # only the garbage collector finds it

        def __del__(self) -> None:
            pipe.put_nowait(b"destroyed", level=40)

    fill_count = fill(pipe)
    threshold = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for _ in range(50):
            Logs()
            pipe.put_nowait(b"." * 100, level=40)
    finally:
        gc.set_threshold(*threshold)
    gc.collect()

    seen = taken(pipe, fill_count + 100)
    assert seen.count(b"destroyed") == 50
    assert pipe.drops == {}
    wait_until(lambda: not pipe.waiting)


def test_a_killed_writer_blocks_no_other_process(pipe: RecordQueue) -> None:
    """There is no lock and no semaphore that it could keep."""
    pid = os.fork()
    if pid == 0:
        while True:
            pipe.put_nowait(b"." * 3000, level=10) if not pipe.full() else None
    wait_until(lambda: not pipe.empty())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

    other = threading.Thread(target=lambda: pipe.put(b"alive"))
    other.start()
    seen = b""
    while seen != b"alive":
        seen = pipe.get(timeout=PATIENCE)
    other.join()


def test_a_mark_is_not_an_event(pipe: RecordQueue) -> None:
    pipe.put(b"1")
    assert [pipe.mark(), pipe.mark()] == [1, 2]
    pipe.put(b"2")

    assert taken(pipe, 2) == [b"1", b"2"]
    assert pipe.emitted == 2
