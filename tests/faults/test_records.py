"""Bursts, awkward records, clocks that jump, an application without descriptors or threads."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shipper
from shipper.event.model import MAX_EVENT

from ..support.files import contents
from ..support.waiting import PATIENCE, stop_process, wait_until
from .oracle import Oracle, Step
from .scene import Scene, python_with, run_script

BURST = """
    import json, logging, os, sys, time
    import shipper

    url, spool, processes, each, overflow = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    log = logging.getLogger("burst")
    log.propagate = False
    log.setLevel(1)
    shipper.start(
        shipper.Trakerr("k", url=url + "/a", name="a", batch="array", level=0, max_in_flight=2),
        app="burst", spool=spool, logger=log, overflow=overflow, retry=shipper.Retry(initial=0.05, maximum=0.2),
    )
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
    sys.stdin.readline()
    children = []
    for process in range(processes):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            for number in range(each):
                level = logging.ERROR if number % 10 == 0 else logging.DEBUG
                log.log(level, "id:%s%d-%d %s", "E" if level == logging.ERROR else "D", process, number, "x" * 40)
            os.write(writing, json.dumps(shipper.application.lifecycle.current().queue.drops).encode())
            os.close(writing)
            sys.stdin.readline()
            report = shipper.stop(60)
            os._exit(0 if report.flushed else 1)
        os.close(writing)
        children.append((pid, reading))
    for pid, reading in children:
        print(os.read(reading, 65536).decode(), flush=True)
    sys.stdin.close()
    for pid, reading in children:
        assert os.waitpid(pid, 0)[1] == 0
    shipper.stop(60)
"""


@pytest.mark.parametrize(
    ("processes", "each"),
    [(4, 5000), pytest.param(8, 12_500, marks=[pytest.mark.long, pytest.mark.timeout(300)])],
)
def test_a_burst_drops_the_unimportant_first_and_counts_it_exactly(
    oracle: Oracle, spool: Path, tmp_path: Path, processes: int, each: int
) -> None:
    (tmp_path / "burst.py").write_text(textwrap.dedent(BURST))
    command = [sys.executable, str(tmp_path / "burst.py"), oracle.url("x")[:-2], str(spool)]
    # The last quarter of the overflow takes all errors of a process, the rest only a part of its other records.
    command += [str(processes), str(each), str(each * 120)]
    pipe = subprocess.PIPE
    with Scene(spool, oracle) as scene, subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as app:
        assert app.stdin is not None
        assert app.stdout is not None
        assert app.stdout.readline() == "ready\n"
        pid = scene.pid
        stop_process(pid)
        try:
            app.stdin.write("go\n")
            app.stdin.flush()
            said = [json.loads(app.stdout.readline()) for _ in range(processes)]
        finally:
            os.kill(pid, signal.SIGCONT)
        app.stdin.close()
        assert app.wait(PATIENCE) == 0
        scene.ends()

    dropped: dict[str, int] = {}
    for drops in said:
        for level, count in drops.get("queue_full", {}).items():
            dropped[level] = dropped.get(level, 0) + count
    arrived = oracle.accepted("a")
    emitted = {
        f"{'D' if number % 10 else 'E'}{process}-{number}" for process in range(processes) for number in range(each)
    }
    missing = emitted - arrived.keys()
    assert arrived.keys() <= emitted
    assert missing, "the burst was too small to fill anything"
    assert {name for name in missing if name.startswith("E")} == set()
    assert dropped == {"DEBUG": len(missing)}
    ledger = json.loads((spool / "ledger.json").read_text())
    in_gaps = sum(end - first for known in ledger["processes"].values() for first, end in _between(known["ranges"]))
    assert in_gaps <= len(missing)  # what was dropped at the very end of a process leaves no gap


def _between(ranges: list[list[int]]) -> list[tuple[int, int]]:
    ends = [0, *(end for _, end in ranges)]
    return [(end, first) for end, (first, _) in zip(ends, ranges, strict=False) if first > end]


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def _cyclic() -> dict[str, Any]:
    data: dict[str, Any] = {"list": []}
    data["list"].append(data)
    data["self"] = data
    return data


def _deep(depth: int) -> list[Any]:
    data: list[Any] = []
    for _ in range(depth):
        data = [data]
    return data


def _raised(depth: int) -> BaseException:
    def down(left: int) -> None:
        if left:
            down(left - 1)
        raise ValueError("deep down")

    try:
        down(depth)
    except ValueError as error:
        return error
    raise AssertionError("unreachable")


def _in_a_loop() -> BaseException:
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    one.__context__, two.__context__ = two, one
    return one


AWKWARD: dict[str, Callable[[Scene], object]] = {
    "a long message": lambda s: s.log("x" * 10_000_000),
    "a long key": lambda s: s.log(extra={"k" * 100_000: 1}),
    "many extras": lambda s: s.log(extra={f"key{number}": "x" * 1000 for number in range(5000)}),
    "deep": lambda s: s.log(extra={"deep": _deep(900)}),
    "cyclic": lambda s: s.log(extra={"cyclic": _cyclic()}),
    "surrogates": lambda s: s.log("\ud800 \udfff é € 𐍈 \0 \x1b[31m \u2028", extra={"\udc80": "\udcff"}),
    "numbers": lambda s: s.log(extra={"nan": float("nan"), "inf": float("-inf"), "huge": 10**5000, "complex": 1j}),
    "bytes": lambda s: s.log(extra={"bytes": bytes(range(256)), "array": bytearray(5), "view": memoryview(b"x")}),
    "a raising repr": lambda s: s.log(extra={"hostile": Hostile(), "in": [Hostile()]}),
    "locks and files": lambda s: s.log(extra={"lock": threading.Lock(), "stream": sys.__stdout__}),
    "500 frames": lambda s: s.log(exc_info=_raised(500)),
    "exceptions in a loop": lambda s: s.log(exc_info=_in_a_loop()),
    "an exception without words": lambda s: s.log(exc_info=type("Odd", (Exception,), {"__str__": Hostile.__repr__})()),
    "a stack": lambda s: s.log(stack_info=True),
    "odd keys": lambda s: s.log(extra={"a.b": 1, "": 2, "name2": None}),
}


def test_whatever_is_logged_arrives_in_bounds(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.oracle.always("a", Step(413, larger=4 * MAX_EVENT))
    scene.oracle.always("b", Step(413, larger=4 * MAX_EVENT))
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    for action in AWKWARD.values():
        action(scene)
    for name, arguments in (("args", ("few",)), ("hostile", (Hostile(), 1))):
        record = logging.LogRecord("x", logging.INFO, __file__, 1, f"id:{name} %s %d", arguments, None)
        scene.handler.handle(record)  # not through the logger: pytest's own handler fails on it
        scene.emitted[name] = logging.INFO

    scene.all_arrive("a", "b")
    scene.a_fresh_record_flows("a", "b")
    assert scene.dead("a") == scene.dead("b") == []
    assert "Traceback" not in capfd.readouterr().err


def test_what_is_changed_after_the_call_travels_as_it_was(scene: Scene, spool: Path) -> None:
    with Oracle(keep_bodies=True) as keeping, Scene(spool, keeping) as other:
        other.start(other.jkool("b"))
        basket = ["before"]
        other.log(extra={"basket": basket})
        basket[0] = "after"
        other.all_arrive("b")
        (request,) = keeping.requests("b")
        assert request.body is not None
        assert "before" in request.body
        assert "after" not in request.body


JUMPING = """
    import os, time
    real = time.time

    def jumped():
        try:
            with open(os.path.join(HERE, "seconds")) as file:
                return real() + float(file.read() or 0)
        except (OSError, ValueError):
            return real()

    time.time = jumped
"""


@pytest.mark.parametrize("jump", [-3600, 3600, 10 * 365 * 86400, -1e9])
def test_a_wall_clock_that_jumps_stops_nothing(scene: Scene, tmp_path: Path, jump: float) -> None:
    python = python_with(tmp_path / "python", JUMPING)
    scene.start(scene.trakerr("a"), scene.jkool("b"), python=python)
    scene.log_many(20)
    scene.all_arrive("a", "b")

    (tmp_path / "python" / "seconds").write_text(str(jump))
    scene.oracle.script("a", [Step(503), Step(503)])
    scene.log_many(20)
    scene.all_arrive("a", "b", timeout=10)
    os.kill(scene.pid, signal.SIGKILL)  # the next one starts after the jump
    scene.log_many(20)
    scene.all_arrive("a", "b", timeout=10)
    (tmp_path / "python" / "seconds").write_text("0")

    scene.a_fresh_record_flows("a", "b")
    assert scene.oracle.request_count("a") < 100, "a storm"
    assert scene.stop().flushed


JUMPING_APP = """
    import json, logging, os, signal, sys
    import shipper
    from shipper.spool.lock import read_pid
    from shipper.spool.layout import Spool

    url, spool, flag, jump = sys.argv[1:]
    log = logging.getLogger("jumps")
    shipper.start(shipper.Trakerr("k", url=url, name="a", level=0), app="jumps", spool=spool, logger=log)
    for turn in range(6):
        log.error("id:t%d", turn)
        assert shipper.flush(60)
        with open(flag, "w") as file:
            file.write(jump if turn % 2 == 0 else "0")
        os.kill(read_pid(Spool(spool)), signal.SIGKILL)
    log.error("id:last")
    assert shipper.flush(60), shipper.status()
    assert shipper.stop(60).flushed
"""


@pytest.mark.parametrize("jump", ["-3600", "3600"])
def test_an_application_restarts_its_process_whatever_the_clock_says(
    scene: Scene, tmp_path: Path, jump: str
) -> None:
    python = python_with(tmp_path / "python", JUMPING)

    arguments = (scene.oracle.url("a"), str(scene.spool), str(tmp_path / "python" / "seconds"), jump)
    run_script(tmp_path, JUMPING_APP, *arguments, python=python, timeout=40)

    assert scene.oracle.accepted("a").keys() == {*(f"t{turn}" for turn in range(6)), "last"}
    scene.ends()


FEW_DESCRIPTORS = """
    import logging, os, resource, sys
    import shipper

    url, spool = sys.argv[1:]
    log = logging.getLogger("few")
    log.propagate = False

    def exhaust():
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return taken

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    shipper.start(shipper.Trakerr("k", url=url, name="a", level=0), app="few", spool=spool, logger=log, overflow=65536)
    taken = exhaust()
    for number in range(200):
        log.error("id:e%d %s", number, "x" * 1000)
    assert shipper.flush(0.1) in (True, False)
    child = os.fork()
    if child == 0:
        for number in range(20):
            log.error("id:c%d", number)
        assert shipper.application.lifecycle.current().queue.emitted == 20
        for fd in taken:
            os.close(fd)
        os._exit(0 if shipper.stop(60).flushed else 1)
    assert os.waitpid(child, 0)[1] == 0
    for fd in taken:
        os.close(fd)
    log.error("id:fresh")
    report = shipper.stop(60)
    assert report.flushed, report
    print(report.dropped)
"""


def test_an_application_without_descriptors_goes_on_logging(scene: Scene, tmp_path: Path) -> None:
    said = run_script(tmp_path, FEW_DESCRIPTORS, scene.oracle.url("a"), str(scene.spool))

    arrived = scene.oracle.accepted("a").keys()
    assert arrived == {*(f"e{number}" for number in range(200)), *(f"c{number}" for number in range(20)), "fresh"}
    assert said.strip() == "{}"
    scene.ends()


NO_THREADS = """
    import logging, sys, threading, _thread
    import shipper

    url, spool = sys.argv[1:]
    log = logging.getLogger("none")
    log.propagate = False

    def none(*arguments, **options):
        raise RuntimeError("can't start new thread")

    names = [name for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)]
    kept = {name: getattr(threading, name) for name in names}
    vars(threading).update(dict.fromkeys(names, none))
    shipper.start(shipper.Trakerr("k", url=url, name="a", level=0), app="none", spool=spool, logger=log)
    for number in range(3000):
        log.error("id:e%d %s", number, "x" * 1000)
    assert shipper.flush(60)
    vars(threading).update(kept)
    log.error("id:fresh")
    report = shipper.stop(60)
    assert report.flushed and not report.dropped, report
"""


def test_an_application_that_gets_no_thread_goes_on_logging(scene: Scene, tmp_path: Path) -> None:
    run_script(tmp_path, NO_THREADS, scene.oracle.url("a"), str(scene.spool), timeout=60)

    assert scene.oracle.accepted("a").keys() == {*(f"e{number}" for number in range(3000)), "fresh"}
    scene.ends()


SECRETS = {
    "message": "hunter2-message",
    "extra": "hunter2-extra",
    "argument": "hunter2-argument",
    "url": "hunter2-url",
    "bearer": "hunter2-bearer-0123456789",
    "local": "hunter2-local",
    "trakerr": "hunter2-api-key",
    "jkool": "hunter2-jkool-token",
}


def test_a_secret_is_nowhere(spool: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Oracle(keep_bodies=True) as oracle, Scene(spool, oracle) as scene:
        oracle.always("a", Step(400, body="no", contains="refuse"))
        oracle.always("b", Step(400, body="no", contains="refuse"))
        scene.start(scene.trakerr("a", SECRETS["trakerr"]), scene.jkool("b", SECRETS["jkool"]))
        _log_secrets(scene, "")
        _log_secrets(scene, "refuse")
        wait_until(lambda: len(scene.dead("a")) == len(scene.dead("b")) == 4, 10)
        process = scene.process
        seen = [" ".join(process.cmdline()), json.dumps(process.environ()), repr(shipper.status())]
        seen += [repr(scene.trakerr("a", SECRETS["trakerr"])), repr(shipper.application.lifecycle.current())]
        scene.stop()
        scene.ends()
        for request in oracle.requests("a") + oracle.requests("b"):
            assert request.body is not None
            seen.append(request.body.replace(SECRETS["trakerr"], ""))  # Trakerr's key belongs in the body
        folders = [spool, Path(scene.place.overflow)]
        seen += [content.decode("latin-1") for folder in folders for content in contents(folder)]
        captured = capfd.readouterr()
        seen += [captured.out, captured.err]

    text = "\n".join(seen)
    assert "id:" in text, "nothing was looked at"
    assert [what for what, secret in SECRETS.items() if secret in text] == []


def _log_secrets(scene: Scene, word: str) -> None:
    local = SECRETS["local"]
    scene.log(f"{word} password={SECRETS['message']} Authorization: Bearer {SECRETS['bearer']}")
    scene.log(word, extra={"password": SECRETS["extra"], "deep": {"api_key": [SECRETS["extra"]]}})
    scene.log(f"{word} https://user:{SECRETS['url']}@db/x")
    try:
        raise ValueError({"token": SECRETS["argument"]}, len(local))
    except ValueError:
        scene.log(word, exc_info=True)
