"""Applications that the fault cases run, each in a process of its own: `python apps.py NAME`.

Their options are in the environment. Every process writes into a file of its own what it is about to log, and that the
logging call has returned: what must not be missing afterwards is known even when it is killed in between.
"""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import importlib
import io
import itertools
import json
import logging
import math
import multiprocessing as mp
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import shipper
from shipper.application.lifecycle import current
from shipper.spool.layout import Spool
from shipper.spool.lock import read_pid

OPTIONS: dict[str, Any] = json.loads(os.environ.get("FAULTS_OPTIONS", "{}"))
LOG = logging.getLogger("faults")
LARGEST = 250_000  # characters of the longest record whose event is not cut
_files: dict[int, int] = {}


def begin(**settings: Any) -> None:
    """Call `shipper.start` with the backends, spool and settings of the options."""
    if "spooling" in OPTIONS:
        settings["spooling"] = shipper.Spooling(**OPTIONS["spooling"])
    shipper.start(
        shipper.Trakerr("key", url=OPTIONS["trakerr"], level=0),
        shipper.JKool("token", url=OPTIONS["jkool"], level=0),
        app="faults",
        spool=OPTIONS["spool"],
        **{**OPTIONS.get("settings", {}), **settings},
    )


def log(label: str, *, level: int = logging.INFO, padding: int = 0) -> None:
    """Log a record that is known by its label; note it before the call and after it has returned."""
    running = current()
    id = f" {running.queue.token.hex()}-{running.queue.emitted}" if running is not None else ""
    note(f"+ {label}{id} {level}")
    LOG.log(level, "id:%s %s", label, "z" * padding)  # looks like no secret: nothing is masked
    note(f"= {label}")


def note(line: str) -> None:
    pid = os.getpid()
    if pid not in _files:
        path = os.path.join(OPTIONS["ledger"], str(pid))
        _files[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.write(_files[pid], f"{line}\n".encode())


def say(text: object) -> None:
    """Write one line to stdout, where the test reads it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def log_many(name: str, count: int) -> None:
    for number in range(count):
        log(f"{name}-{os.getpid()}-{number}")


def wait_for_orders() -> str:
    """Return the next line of stdin; empty once the test has closed it."""
    return sys.stdin.readline().strip()


# Logging once, and ending in one way or another ----------------------------------------------------------------------


def flood() -> None:
    """Log ``count`` records, then end as ``end`` says: "kill", "exit", "return" or "wait" for a line."""
    begin()
    log_many("flood", OPTIONS["count"])
    say("logged")
    if OPTIONS["end"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if OPTIONS["end"] == "exit":
        os._exit(0)
    if OPTIONS["end"] == "wait":
        wait_for_orders()


def obey() -> None:
    """For each line "COUNT PADDING" of stdin, log so many records with that padding, then print "logged"."""
    if OPTIONS.get("redirect"):
        sys.stderr = Redirected()
        logging.lastResort = None
    begin()
    say(os.getpid())
    turn = 0
    while order := wait_for_orders():
        count, padding = map(int, order.split())
        for number in range(count):
            level = logging.ERROR if number % 10 == 0 else logging.DEBUG
            log(f"obey-{turn}-{number}", level=level, padding=padding)
        turn += 1
        say("logged")
    report = shipper.stop(OPTIONS.get("stop", 20.0))
    assert report is not None
    say(json.dumps({"emitted": report.emitted, "dropped": report.dropped, "flushed": report.flushed}))


class Redirected(io.StringIO):
    """stderr as some frameworks replace it: what is written to it is logged."""

    def write(self, text: str) -> int:
        if text.strip():
            logging.getLogger("stderr").error(text)
        return len(text)


def stop_in_time() -> None:
    """Log, stop with a timeout, and print how long that took and what the report says."""
    begin()
    log_many("late", OPTIONS["count"])
    before = time.monotonic()
    report = shipper.stop(OPTIONS["stop"])
    took = time.monotonic() - before
    assert report is not None
    say(json.dumps({"took": took, "flushed": report.flushed, "left": dict(report.left)}))


def big_record() -> None:
    """Log a record of many frames, and be killed before its tenth write to the channel."""
    begin()
    log_many("small", 100)
    calls = 0
    channel = current().queue._channel  # type: ignore[union-attr]
    write = channel.write

    def killing(piece: bytes) -> bool:
        nonlocal calls
        calls += 1
        if calls == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(piece)

    channel.write = killing  # type: ignore[method-assign]
    log("big", padding=1_000_000)


def log_late() -> None:
    """Log where no one should: in atexit after stop(), in logging.shutdown, in a daemon thread at the very end."""
    class Parting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            """Do nothing."""

        def close(self) -> None:
            log("in-shutdown")
            super().close()

    begin()
    log_many("early", 10)
    logging.getLogger("other").addHandler(Parting())
    stopping = threading.Event()

    def chatter() -> None:
        number = 0
        while not stopping.wait(0.0005):
            number += 1
            log(f"thread-{number}")

    threading.Thread(target=chatter, daemon=True).start()
    if OPTIONS["stopped"]:
        LOG.addHandler(shipper.QueueHandler())  # stop() takes away only what start() attached
        LOG.setLevel(logging.INFO)
        atexit.register(lambda: log("in-atexit"))
        atexit.register(lambda: shipper.stop(60))
    else:
        atexit.register(lambda: log("in-atexit"))


def no_thread() -> None:
    """Log more than the pipe holds; the first start of the thread that empties the overflow fails."""
    stranger: Any = importlib.import_module("shipper.transport.channel")
    failures: list[str] = []
    start_thread = stranger.start_thread

    def failing(target: Callable[[], None], name: str) -> None:
        if not failures:
            failures.append(name)
            raise RuntimeError("can't start new thread")
        start_thread(target, name)

    stranger.start_thread = failing
    begin()
    wait_for_orders()
    for number in range(200):
        log(f"threadless-{number}", padding=20_000)
    assert failures
    say("logged")
    wait_for_orders()


def small_pipe() -> None:
    """Log through a pipe of the default size, because a larger one is refused; print its size in bytes."""
    stranger: Any = importlib.import_module("shipper.transport.pipe")
    stranger.PIPE_BYTES = -1
    begin()
    for number in range(500):
        log(f"small-{number}", padding=2000)
    say(fcntl.fcntl(current().queue._pipe.open(), 1032))  # type: ignore[union-attr]


def no_semaphores() -> None:
    """A system without /dev/shm semaphores, where no multiprocessing.Queue can be made."""
    stranger: Any = importlib.import_module("_multiprocessing")

    class Refusing:
        SEM_VALUE_MAX = 32767

        def __init__(self, *_: object) -> None:
            raise OSError(38, "Function not implemented")

    stranger.SemLock = Refusing
    try:
        mp.Queue()
    except OSError:
        say("no semaphores")
    begin()
    log_many("alone", 20)


def mp_debug() -> None:
    """Ship the debug messages of multiprocessing too, through a handler on its logger."""
    begin()
    mp.get_logger().addHandler(shipper.QueueHandler())
    mp.get_logger().setLevel(1)
    process = mp.Process(target=child, args=("child", 20))
    process.start()
    process.join()
    queue: mp.Queue[int] = mp.Queue()
    queue.put(1)
    assert queue.get() == 1
    queue.close()
    queue.join_thread()
    log_many("parent", 20)


def daemon_child() -> None:
    """The parent ends while a daemonic child logs, so the child gets SIGTERM."""
    begin()
    process = mp.Process(target=endless, daemon=True)
    process.start()
    while not done_by(process.pid):
        time.sleep(0.01)
    log_many("parent", 10)


def done_by(pid: int | None) -> int:
    path = os.path.join(OPTIONS["ledger"], str(pid))
    return os.path.getsize(path) // 1000 if os.path.exists(path) else 0


def listening() -> None:
    """Log in a server whose listening socket can be inherited; print its port."""
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    server.set_inheritable(True)
    begin()
    log_many("server", 10)
    say(server.getsockname()[1])
    wait_for_orders()


# Many processes ----------------------------------------------------------------------------------------------------


def storm() -> None:
    """Four workers log ``count`` records in all while workers and the shipper process are killed at random."""
    mp.set_start_method(OPTIONS["method"])
    in_parent = OPTIONS["start"] == "parent"
    if in_parent:
        begin()
    chance = random.Random(OPTIONS["seed"])
    shares = [OPTIONS["count"] // 4] * 4
    workers: dict[int, tuple[Any, str, int]] = {}
    born = killed = 0
    kill_worker, kill_shipper = time.monotonic() + 0.3, time.monotonic() + 0.4
    while shares or workers:
        while shares:
            born += 1
            worker: Any = mp.Process(target=storm_worker, args=(f"w{born}", shares[-1], in_parent))
            worker.start()
            workers[born] = (worker, f"w{born}", shares.pop())
        threading.Event().wait(0.01)
        for number, (worker, name, share) in list(workers.items()):
            if worker.is_alive():
                continue
            worker.join()
            del workers[number]
            if done(name) < share:
                shares.append(share - done(name))
        now = time.monotonic()
        if workers and now >= kill_worker and killed < OPTIONS["kills"]:
            chance.choice(list(workers.values()))[0].kill()
            killed += 1
            kill_worker = now + chance.random() * OPTIONS["pause"]
        if now >= kill_shipper:
            kill_shipper_process()
            kill_shipper = now + chance.random() * 2 * OPTIONS["pause"]
    say(f"killed {killed}")
    if in_parent:
        shipper.stop(60)


def storm_worker(name: str, count: int, started: bool) -> None:
    if not started or OPTIONS["method"] != "fork":
        begin()
    for number in range(count):
        log(f"{name}-{number}")
        note(f"* {name}")


def done(name: str) -> int:
    """How many records a worker has logged, as its file says."""
    folder = OPTIONS["ledger"]
    for each in os.listdir(folder):
        with open(os.path.join(folder, each)) as file:
            count = file.read().count(f"* {name}\n")
        if count:
            return count
    return 0


def kill_shipper_process() -> int:
    """Kill the process that holds the spool's lock; return its pid, 0 when the lock file names none yet."""
    pid = read_pid(Spool(OPTIONS["spool"]))
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pid


def group() -> None:
    """Fork ``workers`` (default 4) that log until they are killed or the file "stop" exists; print all pids."""
    begin()
    pids = [fork(endless) for _ in range(OPTIONS.get("workers", 4))]
    say(json.dumps([os.getpid(), *pids]))
    wait_for_orders()


def endless() -> None:
    number = 0
    folder = OPTIONS["ledger"]
    chance = random.Random(os.getpid())
    while not os.path.exists(os.path.join(folder, "stop")):
        padding, pause = OPTIONS.get("padding", 0), OPTIONS.get("pause", 0.001)
        if rate := OPTIONS.get("rate"):  # bytes per second, in records of all sizes
            padding = int(10 ** chance.uniform(1, math.log10(LARGEST)))
            pause = padding / rate
        level = logging.ERROR if number % 3 == 0 else logging.INFO
        log(f"endless-{os.getpid()}-{number}", level=level, padding=padding)
        number += 1
        time.sleep(pause)


def fork(run: Callable[[], None], *, hooks: bool = True) -> int:
    """Fork a child that calls ``run`` and ends by `os._exit`; return its pid. uWSGI forks without ``hooks``."""
    pid = os.fork() if hooks else int(ctypes.PyDLL(None).fork())
    if pid:
        return pid
    code = 1
    try:
        run()
        code = 0
    finally:
        os._exit(code)


def join(*pids: int) -> None:
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"a child ended with status {status}"


def prefork() -> None:
    """Like gunicorn with --preload: start and log in the master, then fork four workers, ``turns`` times."""
    begin()
    log_many("master", 9)
    for turn in range(OPTIONS["turns"]):
        join(*[fork(partial(log_many, f"turn{turn}", OPTIONS["count"])) for _ in range(4)])
    log_many("master-again", 9)


def fork_without_hooks() -> None:
    begin()
    log_many("parent", 10)
    # Without hooks a child hangs if any other thread waits for the GIL at the fork. Once everything is delivered, the
    # package's own thread is idle.
    assert shipper.flush(60)
    join(fork(lambda: log_many("child", 10), hooks=False))
    log_many("parent-again", 10)


def fork_with_locks() -> None:
    """Fork again and again while threads of the parent log; then once while a thread holds the overflow's lock."""
    begin()
    stopping = threading.Event()

    def busy(name: str) -> None:
        number = 0
        while not stopping.is_set():
            log(f"{name}-{number}", padding=5000)
            number += 1
            time.sleep(0.002)

    threads = [threading.Thread(target=busy, args=(f"thread{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(OPTIONS["turns"]):
        join(fork(partial(log_many, f"child{turn}", 5)))
    stopping.set()
    for thread in threads:
        thread.join()
    held = current().queue._channel.overflow._lock  # type: ignore[union-attr]
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with held:
            taken.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    join(fork(lambda: log_many("locked", 5)))
    release.set()
    holder.join()


def methods() -> None:
    """The same children under one start method: mp.Process, ProcessPoolExecutor and a Pool of daemonic workers."""
    mp.set_start_method(OPTIONS["method"])
    begin()
    log_many("parent", 10)
    processes = [mp.Process(target=child, args=(f"process{i}", 50)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        list(executor.map(pooled, range(4)))
    with mp.Pool(2) as pool:
        pool.map(pooled, range(4, 8))
    say("logged")


def child(name: str, count: int) -> None:
    begin()
    log_many(name, count)


def pooled(number: int) -> None:
    child(f"pooled{number}", 20)


def billiard_pool() -> None:
    """Celery's pool, whose workers are SIGKILLed when a task takes too long."""
    import billiard  # type: ignore[import-untyped]
    from billiard.einfo import ExceptionWithTraceback  # type: ignore[import-untyped]
    from billiard.exceptions import TimeLimitExceeded  # type: ignore[import-untyped]

    begin()
    pool = billiard.Pool(2, timeout=30)
    answers = [pool.apply_async(pooled, (number,)) for number in range(6)]
    for answer in answers:
        answer.get()
    with contextlib.suppress(TimeLimitExceeded, ExceptionWithTraceback):
        pool.apply_async(hang, (), timeout=1).get()
    give_up(pool)
    with billiard.Pool(2) as another:
        another.apply_async(pooled, (6,)).get()


def give_up(pool: Any) -> None:
    """End a pool one of whose workers was killed, without `terminate`, which may wait for ever.

    On a busy machine about one such pool in ten has its result queue locked by the dead worker, without shipper too.
    """
    pool._terminate.cancel()
    pool._worker_handler.close()
    pool._worker_handler.join()
    for worker in list(pool._pool):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)
        worker.join()


def hang() -> None:
    child("hanging", 20)
    threading.Event().wait()


def stop_everywhere() -> None:
    """Call stop() and start() repeatedly, also in children and in a signal handler; the parent goes on shipping."""
    begin()
    begin()
    log_many("one", 5)

    def stopping_child() -> None:
        log_many("child", 5)
        shipper.stop(60)
        shipper.stop(60)

    def quiet_child() -> None:
        shipper.stop(60)

    join(fork(stopping_child), fork(quiet_child))
    log_many("two", 5)
    signal.signal(signal.SIGUSR1, lambda *_: shipper.stop(60) and None)
    os.kill(os.getpid(), signal.SIGUSR1)
    begin()
    log_many("three", 5)
    report = shipper.stop(60)
    assert report is not None
    assert report.flushed, report
    assert shipper.stop(60) is None


def reenter() -> None:
    """Log inside logging: from signal handlers, destructors, filters and __str__."""
    begin()
    numbers = itertools.count(1)
    pause = 0.0007  # seconds
    inside = 0

    def on_alarm(*_: object) -> None:
        nonlocal inside
        inside += 1
        # It may interrupt itself, but twice only: periodic alarms do so on a slow machine until the stack is full.
        if inside < 3:
            signal.setitimer(signal.ITIMER_REAL, pause)
        log(f"signal-{next(numbers)}")
        inside -= 1
        if not inside:
            signal.setitimer(signal.ITIMER_REAL, pause)

    class Chatty:
        def __init__(self, name: str) -> None:
            self.name = name
            self.me = self  # a cycle: only the garbage collector frees it

        def __str__(self) -> str:
            log(f"str-{self.name}")
            return "chatty"

        def __del__(self) -> None:
            log(f"del-{self.name}")

    class Talkative(logging.Filter):
        inside = False

        def filter(self, record: logging.LogRecord) -> bool:
            if not self.inside and record.levelno == logging.WARNING:
                self.inside = True
                log(f"filter-{record.getMessage().split()[0][3:]}")
                self.inside = False
            return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(Talkative())
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, pause)
    gc.set_threshold(10)
    for number in range(OPTIONS["count"]):
        note(f"+ object-{number}")
        LOG.info("id:object-%d %s", number, Chatty(str(number)), extra={"x": Chatty(f"extra{number}")})
        note(f"= object-{number}")
        if number % 50 == 0:
            log(f"warned-{number}", level=logging.WARNING, padding=20_000)
    pause = 0  # a handler that runs from here on sets no further alarm
    signal.setitimer(signal.ITIMER_REAL, pause)
    gc.collect()


def main() -> None:
    faulthandler.dump_traceback_later(45)  # shows where a program hangs
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
