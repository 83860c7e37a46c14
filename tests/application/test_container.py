"""The end of a container is the end of its PID 1: the kernel kills the shipper process too."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.application.supervision.container import ends_with_this_process

from ..support.apps import App
from ..support.needs import need
from ..support.servers import HANG, Request, Server
from ..support.waiting import PATIENCE

SLOW_SECONDS = 0.3
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@functools.cache
def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


def slow(request: Request) -> None:
    threading.Event().wait(SLOW_SECONDS)


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server(slow) as server:
        yield App(server, spool, tmp_path)


@pytest.fixture
def deaf(spool: Path, tmp_path: Path) -> Iterator[App]:
    """An application whose service never answers."""
    with Server(default=HANG) as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def run_in_container(app: App, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in a PID namespace of its own; all processes in it have ended when this returns."""
    need(can_unshare(), "unshare with a PID namespace (root)")
    done = subprocess.run(
        [*UNSHARE, *command], env=app.environment, capture_output=True, text=True, timeout=4 * PATIENCE
    )
    assert done.returncode == code, done.stderr
    return done


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the application's warnings; those of the shipper process, such as on old memory files, begin otherwise."""
    return [line for line in done.stderr.splitlines() if line.startswith("shipper: ")]


def test_the_next_container_sends_nothing_again_that_a_flush_has_waited_for(spool: Path, tmp_path: Path) -> None:
    """The kernel kills the shipper process as soon as the flush has returned."""
    with Server() as server:
        app = App(server, spool, tmp_path)
        source = app.write(
            """
            begin()
            for n in range(20):
                log.info("%d", n)
                time.sleep(0.01)  # events that come one by one are saved now and then
            os._exit(0 if shipper.flush(30) else 3)
            """
        )

        for _ in range(3):
            run_in_container(app, sys.executable, str(source))

        assert len(app.ids()) == 60
        assert set(app.ids().values()) == {1}


LAST_WORDS = "begin(); log.error('last words'); sys.exit(3)"


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "{app}"], ["sh", "-c", f"{sys.executable} {{app}}; exit $?"]],
    ids=["the application", "a shell"],
)
def test_what_pid_1_logs_right_before_it_ends_is_delivered(app: App, command: list[str]) -> None:
    path = str(app.write(LAST_WORDS))

    done = run_in_container(app, *(each.format(app=path) for each in command), code=3)

    assert app.messages() == ["last words"]
    assert complaints(done) == []


def test_with_exit_wait_false_the_end_waits_for_the_journal_only(deaf: App) -> None:
    path = str(deaf.write("begin(exit_wait=False); log.error('last words')"))

    done = run_in_container(deaf, sys.executable, path)

    assert complaints(done) == []
    assert b"last words" in b"".join(each.read_bytes() for each in (deaf.spool / "journal").iterdir())


def test_what_is_left_after_the_time_is_up_is_said_and_where_it_is(deaf: App) -> None:
    done = deaf.run("""
        begin(exit_wait=True, exit_timeout=0.5, grace=0.1)
        log.error("1")
        log.error("2")
        while shipper.status().journaled < 2:
            time.sleep(0.02)
    """)

    assert "after 0.5 s (exit_timeout)" in done.stderr
    assert "2 for trakerr" in done.stderr
    assert str(deaf.spool) in done.stderr


def test_outside_of_containers_the_end_does_not_wait_for_delivery(deaf: App) -> None:
    need(not ends_with_this_process(), "tests that do not run as the program of a container")
    done = deaf.run("begin(grace=0.1); log.error('x')")

    assert complaints(done) == []


def test_a_forked_child_leaves_the_waiting_to_its_parent(deaf: App) -> None:
    path = deaf.write("""
        begin(exit_timeout=0.5, grace=0.1)
        pid = os.fork()
        log.error("x")
        if pid == 0:
            while shipper.status().journaled < 2:
                time.sleep(0.02)
            sys.exit(0)
        os.waitpid(pid, 0)
    """)

    done = run_in_container(deaf, sys.executable, str(path))

    assert len([line for line in done.stderr.splitlines() if "exit_timeout" in line]) == 1


def test_as_pid_1_the_application_has_no_zombies(app: App) -> None:
    path = app.write("""
        begin()
        killed = []
        def zombies():
            states = {}
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    states[int(pid)] = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
                except OSError:
                    pass
            return [pid for pid, state in states.items() if state == "Z"]
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (len(killed) < 3 or zombies()):
            pid = shipper.status().pid
            if pid and pid not in killed and len(killed) < 3:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.05)
        print(len(killed), zombies())
        log.error("x")
    """)

    done = run_in_container(app, sys.executable, str(path))

    assert done.stdout == "3 []\n"
    assert app.messages() == ["x"]


def test_an_application_that_ends_itself_with_exit_wait_on_a_host_has_delivered(app: App) -> None:
    app.run("begin(exit_wait=True); log.error('x')")

    assert app.messages() == ["x"]
    app.wait_for_end()


@pytest.mark.parametrize("value", ["yes", 1])
def test_a_wrong_exit_wait_is_an_error(value: object) -> None:
    import shipper

    with pytest.raises(shipper.ConfigurationError, match="exit_wait"):
        shipper.start(shipper.Trakerr("key"), exit_wait=value)  # type: ignore[arg-type]


def test_a_read_only_container_without_a_temp_folder_is_told_to_give_a_spool() -> None:
    need(can_unshare(), "unshare with a mount namespace (root)")
    program = """
import shipper
from shipper.application.derived_name import adopt_earlier
from shipper.config.environment import resolve
adopt_earlier(resolve((shipper.Trakerr('k'),), {'spool': '/mnt/shipper'}))
print('a folder that is given is taken')
shipper.start(shipper.Trakerr('k'))
"""
    read_only = "for d in / /tmp /var/tmp; do mount --bind $d $d && mount -o remount,bind,ro $d || exit 9; done"
    command = f'{read_only}; cd /; exec "$0" -c "{program}"'
    environment = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "XDG_STATE_HOME")}

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, sys.executable],
        env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 1
    assert done.stdout == "a folder that is given is taken\n"
    assert "ConfigurationError: spool" in done.stderr
    assert "a folder that can be written to" in done.stderr
