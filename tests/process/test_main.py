"""The shipper process from outside: real applications, a real server, signals, and what arrives."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest

from ..support.apps import HEAD, App, shippers_of
from ..support.files import contents
from ..support.servers import HANG, Reply, Server
from ..support.waiting import PATIENCE, scaled, wait_until


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def test_an_application_that_ends_right_after_its_last_line_loses_nothing_and_does_not_wait(app: App) -> None:
    done = app.run("""
        begin()
        for n in range(500):
            log.info("line %d", n)
        began = time.monotonic()
        import atexit
        atexit.register(lambda: None)
        threading.Thread(target=lambda: (threading.main_thread().join(), print(time.monotonic() - began))).start()
    """)

    app.wait_for(*(f"line {n}" for n in range(500)))
    assert done.stderr == ""


def test_the_end_of_an_application_takes_less_than_two_seconds(app: App) -> None:
    app.run("begin(); log.info('warm')")
    began = monotonic()

    app.run("begin(); log.info('last')")

    assert monotonic() - began < scaled(2.5)  # includes the start of two interpreters; the limit of the exit is 10 s
    app.wait_for("warm", "last")


def test_captured_output_ends_with_the_application(spool: Path, tmp_path: Path) -> None:
    """`subprocess.run(capture_output=True)` waits for the end of stderr, which the shipper process has inherited."""
    with Server(default=HANG) as silent:
        app = App(silent, spool, tmp_path)

        began = monotonic()
        app.run("begin(grace=30.0); log.info('x'); print('done')", timeout=20)
        took = monotonic() - began

        assert app.pid()
        assert took < scaled(5)
        app.signal_shipper(signal.SIGKILL)
        app.wait_for_end()


def test_the_process_runs_with_batch_scheduling(app: App) -> None:
    script = app.write("begin(); log.info('x'); sys.stdin.read()")
    with app.running(sys.executable, str(script), stdin=True):
        process = psutil.Process(app.wait_for_shipper())
        app.wait_for("x")

        assert {os.sched_getscheduler(thread.id) for thread in process.threads()} == {os.SCHED_BATCH}


def test_its_command_line_names_the_app_and_neither_it_nor_its_environment_holds_a_secret(app: App) -> None:
    script = app.write("begin(); log.info('x'); sys.stdin.read()")
    app.environment["SHIPPER_TRAKERR_API_KEY"] = "another-secret"
    with app.running(sys.executable, str(script), stdin=True):
        process = psutil.Process(app.wait_for_shipper())
        app.wait_for("x")

        assert [word for word in process.cmdline() if word] == [f"shipper: test {app.spool}"]
        assert process.name().startswith("shipper: test")
        assert Path(f"/proc/{process.pid}/comm").read_text() == "shipper: test\n"
        everything = " ".join([*process.cmdline(), *process.environ(), *process.environ().values()])
        assert "secret-key" not in everything
        assert "another-" not in everything
        assert all(b"secret-key" not in content for content in contents(app.spool))


def test_it_has_none_of_the_applications_sockets(app: App) -> None:
    script = app.write("""
        import socket
        listening = socket.create_server(("127.0.0.1", 0))
        os.set_inheritable(listening.fileno(), True)
        begin(); log.info("port %d", listening.getsockname()[1]); sys.stdin.read()
    """)
    with app.running(sys.executable, str(script), stdin=True) as process:
        pid = app.wait_for_shipper()
        wait_until(lambda: any(message.startswith("port") for message in app.messages()))
        port = int(app.messages()[0].split()[1])

        listening = [each for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_LISTEN]
        assert listening == []

        process.kill()
        process.wait()
        socket.create_server(("127.0.0.1", port)).close()


def test_the_process_is_no_child_and_no_zombie_of_the_application(app: App) -> None:
    script = app.write("begin(); log.info('x'); sys.stdin.read()")
    with app.running(sys.executable, str(script), stdin=True) as process:
        first = app.wait_for_shipper()
        app.wait_for("x")
        assert psutil.Process(process.pid).children() == []

        os.kill(first, signal.SIGKILL)
        app.wait_for_shipper(other_than=first)
        wait_until(lambda: psutil.Process(process.pid).children() == [])


def test_it_survives_an_interrupt_of_the_whole_group(app: App) -> None:
    script = app.write("""
        begin(); log.info("before")
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            log.info("after")
    """)
    with app.running(sys.executable, str(script), stdin=True) as process:
        app.wait_for("before")

        app.signal_shipper(signal.SIGINT)  # by its pid: it is not in the application's process group
        os.killpg(process.pid, signal.SIGINT)

        assert process.wait(PATIENCE) == 0
        app.wait_for("after")


def test_sigterm_makes_it_deliver_what_is_left_and_another_takes_over(app: App) -> None:
    script = app.write("""
        begin(grace=0.2)
        log.info("one"); sys.stdin.readline()
        log.info("two"); sys.stdin.readline()
    """)
    with app.running(sys.executable, str(script), stdin=True) as process:
        app.wait_for("one")
        first = app.pid()

        os.kill(first, signal.SIGTERM)
        app.wait_for_shipper(other_than=first)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

        app.wait_for("two")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 0


def test_it_ends_when_the_last_writer_is_gone(app: App) -> None:
    script = app.write("""
        begin(); log.info("parent")
        if os.fork() == 0:
            log.info("child"); sys.stdin.read(); os._exit(0)
        os._exit(0)
    """)
    with app.running(sys.executable, str(script), stdin=True) as process:
        app.wait_for("parent", "child")
        assert process.wait(PATIENCE) == 0
        assert app.pid(), "the child still writes"

        process.communicate("")
        app.wait_for_end()


def test_killed_under_load_it_is_soon_back_and_nothing_is_missing(app: App) -> None:
    script = app.write("""
        import select
        begin()
        n = 0
        while not select.select([sys.stdin], [], [], 0.001)[0]:
            log.info("%d", n)
            n += 1
        print(n)
    """)
    took = []
    with app.running(sys.executable, str(script), stdin=True) as process:
        app.wait_for("0")
        for _ in range(3):
            pid = app.wait_for_shipper()
            began = monotonic()
            os.kill(pid, signal.SIGKILL)
            app.wait_for_shipper(other_than=pid)
            took.append(monotonic() - began)
        logged = int(process.communicate("", timeout=PATIENCE)[0])
        assert process.returncode == 0

    app.wait_for(*map(str, range(logged)), timeout=30)
    assert len(app.ids()) == logged
    assert max(took) < scaled(2)


def test_when_the_whole_application_is_killed_it_delivers_the_rest_and_ends(app: App) -> None:
    script = app.write("""
        begin()
        for n in range(200):
            log.info("%d", n)
        print("logged", flush=True)
        sys.stdin.read()
    """)
    with app.running(sys.executable, str(script), stdin=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "logged\n"
        os.killpg(process.pid, signal.SIGKILL)

    app.wait_for(*map(str, range(200)))
    app.wait_for_end()


def test_one_process_serves_many_starters(app: App) -> None:
    script = app.write("begin(); log.info('from %s', sys.argv[1]); sys.stdin.readline()")
    starters = [
        subprocess.Popen([sys.executable, str(script), str(n)], env=app.environment, stdin=subprocess.PIPE)
        for n in range(4)
    ]
    try:
        app.wait_for(*(f"from {n}" for n in range(4)))
        assert shippers_of(app.spool) == [app.pid()]
    finally:
        for starter in starters:
            starter.communicate(b"\n", timeout=PATIENCE)


def test_with_both_backends_down_stop_keeps_its_deadline_and_the_next_start_delivers(
    spool: Path, tmp_path: Path
) -> None:
    source = """
        shipper.start(
            shipper.Trakerr("k", url=os.environ["TEST_URL"], level=0),
            shipper.JKool("t", url=os.environ["TEST_OTHER"], level=0, handshake=False),
            app="test", spool=os.environ["TEST_SPOOL"], grace=0.1,
        )
        for message in sys.argv[1:]:
            log.warning(message)
        began = time.monotonic()
        report = shipper.stop(2 if "first" in sys.argv else 10)
        print(time.monotonic() - began, report.flushed, report.left["trakerr"], report.left["jkool"])
    """
    with Server(default=Reply(503)) as down, Server(default=HANG) as hole:
        app = App(down, spool, tmp_path)
        app.environment["TEST_OTHER"] = hole.url
        path = app.write(source)
        done = subprocess.run([sys.executable, path, "first", "x"], env=app.environment, capture_output=True, text=True)
        took, flushed, *left = done.stdout.split()
        assert (flushed, left) == ("False", ["2", "2"]), done.stderr
        assert float(took) < scaled(2.5)
        app.wait_for_end(timeout=15)

    with Server() as up, Server() as other:
        app = App(up, spool, tmp_path)
        app.environment["TEST_OTHER"] = other.url
        done = subprocess.run([sys.executable, path, "second"], env=app.environment, capture_output=True, text=True)
        assert done.stdout.split()[1:] == ["True", "0", "0"], done.stderr
        assert app.messages() == ["first", "x", "second"]
        assert len(other.bodies) == 3
        app.wait_for_end()


def test_a_black_hole_slows_neither_the_other_backend_nor_the_logging_call(spool: Path, tmp_path: Path) -> None:
    with Server(default=HANG) as hole, Server() as healthy:
        app = App(healthy, spool, tmp_path)
        app.environment["TEST_HOLE"] = hole.url
        app.run("""
            shipper.start(
                shipper.Trakerr("k", url=os.environ["TEST_URL"], level=0),
                shipper.JKool("t", url=os.environ["TEST_HOLE"], handshake=False, timeout=(600, 600)),
                app="test", spool=os.environ["TEST_SPOOL"], grace=0.1,
            )
            for n in range(300):
                log.info("%d", n)
            while shipper.status().backends[-1].delivered < 300:
                time.sleep(0.01)
            shipper.stop(0)
        """)
        app.wait_for(*map(str, range(300)))
        app.signal_shipper(signal.SIGKILL)
        app.wait_for_end()


def test_a_process_that_can_not_start_is_reported_once_and_the_application_goes_on(app: App) -> None:
    broken = app.folder / "python"
    broken.write_text("#!/nonexistent/interpreter\n")
    broken.chmod(0o755)

    done = app.run(f"""
        begin(python={str(broken)!r})
        for n in range(50):
            log.info("waiting %d", n)
        while not shipper.application.lifecycle.current().supervisor.has_no_python:
            time.sleep(0.01)
        shipper.stop(0.2)
        begin()
        log.info("now")
        shipper.stop(60)
    """)

    assert done.stderr.count("\n") == 1
    assert "can't be started" in done.stderr
    assert str(broken) in done.stderr
    app.wait_for("now", *(f"waiting {n}" for n in range(50)))


def test_a_python_that_is_missing_for_a_moment_makes_no_flush_give_up(app: App) -> None:
    """The interpreter is missing, for example, while its virtual environment is rebuilt."""
    python, away = app.folder / "python", app.folder / "away"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)

    done = app.run(f"""
        begin(python={str(python)!r})
        log.info("early")
        assert shipper.flush(60)
        os.rename({str(python)!r}, {str(away)!r})
        os.kill(shipper.status().pid, signal.SIGKILL)
        while not shipper.application.lifecycle.current().supervisor.has_no_python:
            time.sleep(0.001)
        log.info("late")
        os.rename({str(away)!r}, {str(python)!r})
        print(shipper.flush(60), shipper.stop(60).flushed)
    """)

    assert done.stdout == "True True\n"
    app.wait_for("early", "late")


PRINTER = """
import logging

class Printer:
    name, level, max_events, max_in_flight = "printer", logging.INFO, 100, 1

    def __init__(self, path):
        self.path = path

    def open(self, context):
        self.file = open(self.path, "a", buffering=1)

    def send(self, events):
        for event in events:
            self.file.write(event.message + "\\n")
        return [None] * len(events)

    def close(self):
        self.file.close()
"""


def test_an_open_backend_needs_not_pickle(app: App) -> None:
    """Settings are pickled and hashed at any time, for the status and for a process that takes over."""
    (app.folder / "printing.py").write_text(PRINTER)
    printed = app.folder / "printed.txt"

    done = app.run(f"""
        import printing
        begin_with = lambda **more: shipper.start(
            printing.Printer({str(printed)!r}), app="test", spool=os.environ["TEST_SPOOL"], **more)
        begin_with()
        log.error("one")
        assert shipper.flush(60)
        os.kill(shipper.status().pid, signal.SIGKILL)
        log.error("two")
        assert shipper.flush(60)
        begin_with(grace=20.0)
        log.error("three")
        assert shipper.flush(60)
        print(shipper.stop(60).flushed)
    """)

    assert done.stdout == "True\n"
    assert set(printed.read_text().split()) == {"one", "two", "three"}


def test_settings_that_can_not_be_read_leave_every_event_in_the_journal(app: App) -> None:
    (app.folder / "mine.py").write_text(
        "import os\n"
        "if 'LOADED' in os.environ: raise ImportError('only once')\n"
        "from shipper.backends.memory import Memory\n"
        "class Mine(Memory): pass\n"
    )
    app.run("""
        import mine
        os.environ["LOADED"] = "1"
        shipper.start(mine.Mine(), app="test", spool=os.environ["TEST_SPOOL"])
        log.info("rescued")
        journal = os.path.join(os.environ["TEST_SPOOL"], "journal")
        def is_journaled():
            return any(b"rescued" in open(os.path.join(journal, each), "rb").read() for each in os.listdir(journal))
        while not is_journaled():  # each process that ends so is followed by another, which is given what waits
            time.sleep(0.02)
        os._exit(0)
    """)
    app.wait_for_end()

    journal = b"".join(contents(app.spool / "journal"))
    assert b"rescued" in journal


def test_changed_settings_replace_the_process_and_nothing_is_lost(app: App) -> None:
    done = app.run(
        """
        begin()
        stopped = threading.Event()
        logged = []
        def work(k):
            n = 0
            while not stopped.is_set():
                log.info("%d-%d", k, n); logged.append(f"{k}-{n}"); n += 1
                time.sleep(0.002)
        threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
        for thread in threads: thread.start()
        def pid():
            while not (found := shipper.status().pid): time.sleep(0.01)
            return found
        pids = [pid()]
        for grace in (21.0, 22.0, 23.0):
            begin(grace=grace)
            deadline = time.monotonic() + 60
            while pid() == pids[-1] and time.monotonic() < deadline: time.sleep(0.01)
            pids.append(pid())
        begin(grace=23.0, overflow=1 << 20)
        begin(grace=23.0, overflow=2 << 20)
        stopped.set()
        for thread in threads: thread.join()
        report = shipper.stop(60)
        print(report.flushed, len(set(pids)), report.dropped, len(logged))
        print(" ".join(logged))
    """,
        timeout=60,
    )
    told, logged = done.stdout.splitlines()

    assert told.split()[:3] == ["True", "4", "{}"]
    assert set(app.messages()) == set(logged.split())


def test_the_settings_of_the_last_start_win(app: App) -> None:
    app.run("""
        import json
        from shipper.spool.lock import running
        from shipper.spool.layout import Spool
        for n in range(4):
            begin(grace=float(n + 1))
        wanted = shipper.application.lifecycle.current().settings.digest
        spool = Spool(os.environ["TEST_SPOOL"])
        deadline = time.monotonic() + 60
        while getattr(running(spool), "digest", "") != wanted or not shipper.status().pid:
            assert time.monotonic() < deadline, running(spool)
            time.sleep(0.01)
        log.info("x")
        assert shipper.stop(60).flushed
    """)


def test_a_forked_childs_other_settings_leave_its_parents_supervisor_asleep(app: App) -> None:
    app.run("""
        begin(); log.info("parent")
        if os.fork() == 0:
            began = time.monotonic()
            begin(grace=7.0); log.info("child")
            took = time.monotonic() - began
            shipper.stop(60)
            os._exit(took > 6)
        assert os.wait()[1] == 0
        before = time.process_time()
        time.sleep(2.0)
        assert time.process_time() - before < 1.0
        log.info("parent again")
        shipper.stop(60)
    """)

    app.wait_for("parent", "child", "parent again")


def test_stop_in_a_forked_child_does_not_end_the_parents_shipping(app: App) -> None:
    app.run("""
        begin(); log.info("parent")
        if os.fork() == 0:
            log.info("child"); report = shipper.stop(60)
            os._exit(not report.flushed)
        assert os.wait()[1] == 0
        log.info("parent again")
        assert shipper.stop(60).flushed
    """)

    app.wait_for("parent", "child", "parent again")


def test_a_script_from_stdin_and_a_command_and_a_thread_may_start_it(app: App) -> None:
    source = HEAD + "begin(); log.info('%s', 'from ' + sys.argv[1]); shipper.stop(60)"
    in_thread = source.replace("begin();", "t = threading.Thread(target=begin); t.start(); t.join();")
    for name, command, script in (
        ("stdin", [sys.executable, "-", "stdin"], source),
        ("command", [sys.executable, "-c", source, "command"], None),
        ("thread", [sys.executable, "-c", in_thread, "thread"], None),
    ):
        done = subprocess.run(
            command, input=script, env=app.environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert (done.returncode, done.stderr) == (0, ""), name

    app.wait_for("from stdin", "from command", "from thread")
