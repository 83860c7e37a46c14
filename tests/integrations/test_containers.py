"""The environments of CONTAINERS.md, with its options and commands: everything that is logged there arrives."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

import shipper

from ..support.apps import App, shippers_of
from ..support.containers import Container, need_containers, stop
from ..support.http_backends import free_port
from ..support.needs import need
from ..support.servers import Reply, Request, Server
from ..support.waiting import PATIENCE, holds, pass_time, wait_until
from .test_starts import fetched

DOCUMENT = Path(shipper.__file__).with_name("CONTAINERS.md").read_text()
DOCKER = next(line for line in DOCUMENT.splitlines() if line.startswith("docker run"))
PROGRAM = re.search(r"^CMD (\[.*\])$", DOCUMENT, re.MULTILINE)
PROBE = re.search(r'command: \[sh, -c, "(.*?)"\]', DOCUMENT)

SITE = """
shipper.start(shipper.Trakerr("key", url=os.environ["TEST_URL"], level=0), app="shop")
def app(environ, start_response):
    log.info("path %s", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
JOB = """
shipper.start(shipper.Trakerr("key", url=os.environ["TEST_URL"], level=0), app="shop")
for number in range(int(sys.argv[1])):
    log.warning("%s %d" + "." * int(sys.argv[3]), sys.argv[2], number)
"""


class Service:
    """Answers 503 while it is ``away``."""

    away = False

    def __call__(self, request: Request) -> Reply | None:
        return Reply(503) if self.away else None


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def app(spool: Path, tmp_path: Path, service: Service) -> Iterator[App]:
    tmp_path.chmod(0o755)  # the user in a container reads the application there
    with Server(service) as server:
        yield App(server, spool, tmp_path)


def docker(*, without: Sequence[str] = ()) -> list[str]:
    """Return the words after ``docker run`` in the documentation, except those in ``without``."""
    return [word for word in shlex.split(DOCKER)[2:] if word not in without]


def container(app: App, words: Sequence[str], *, shm: bool = True) -> Container:
    return Container(words, app.folder, [app.folder], shm=shm)


def job(app: App, place: Container, name: str, count: int, *, padding: int = 0, wait: float = PATIENCE) -> str:
    """Log ``count`` records in the container, wait up to ``wait`` seconds for their delivery; return its output."""
    path = app.write(JOB, "job.py")
    arguments = [sys.executable, str(path), str(count), name, str(padding)]
    done = place.run(arguments, {"TEST_URL": app.server.url, "SHIPPER_EXIT_TIMEOUT": str(wait)})
    assert done.returncode == 0, done.stdout
    return done.stdout


def received(app: App, name: str) -> list[str]:
    return [message for message in app.messages() if message.startswith(f"{name} ")]


def test_gunicorn_in_the_container_of_the_documentation(app: App) -> None:
    """Read-only, of another user, with an init: every request's line has arrived when `docker stop` returns."""
    need_containers()
    assert PROGRAM is not None
    app.write(SITE, "shop.py")
    port = free_port()
    command = [each.replace("0.0.0.0:8000", f"127.0.0.1:{port}") for each in json.loads(PROGRAM[1])]
    words = docker()
    place = container(app, words)
    program = [sys.executable, "-m", *command[:-1], "--no-control-socket", "--chdir", str(app.folder), command[-1]]

    process = place.start(program, {"TEST_URL": app.server.url})
    try:
        wait_until(lambda: fetched(f"http://127.0.0.1:{port}/up"), 20, "gunicorn's answer")
        for number in range(30):
            assert fetched(f"http://127.0.0.1:{port}/{number}")
        output = stop(process, place.stop_timeout)
    finally:
        process.kill()
        process.communicate()

    assert {f"path /{number}" for number in range(30)} <= set(app.messages()), output
    assert (place.volume("spool") / "shop").stat().st_uid == 1000


@pytest.mark.parametrize("without", [(), ("--init",)], ids=["with an init", "as PID 1"])
def test_what_a_container_leaves_is_delivered_by_the_next_one_with_its_volume(
    app: App, service: Service, without: tuple[str, ...]
) -> None:
    need_containers()
    place = container(app, docker(without=without))
    service.away = True

    output = job(app, place, "first", 100, wait=1)

    assert "exit_timeout" in output
    service.away = False
    job(app, place, "second", 10)
    assert set(received(app, "first")) == {f"first {number}" for number in range(100)}
    assert len(received(app, "second")) == 10


@pytest.mark.parametrize("shm", ["64k", None], ids=["64 KiB", "none"])
def test_a_container_with_little_or_no_shared_memory(app: App, shm: str | None) -> None:
    need_containers()
    words = [shm if word == "64m" and shm else word for word in docker()]

    job(app, container(app, words, shm=shm is not None), "burst", 2000, padding=500)

    assert len(received(app, "burst")) == 2000


def test_a_spool_that_is_the_volume_itself_is_refused_with_the_reason(app: App) -> None:
    """The mount of a volume belongs to root, and others may write to it."""
    need_containers()
    words = [word.removesuffix("/shop") if word.startswith("SHIPPER_SPOOL=") else word for word in docker()]
    words[words.index("1000:1000")] = "0:0"
    place = container(app, words)
    place.volume("spool").chmod(0o777)
    path = app.write(JOB, "job.py")
    shown = place.run([sys.executable, str(path), "1", "x", "0"], {"TEST_URL": app.server.url})

    assert shown.returncode == 1
    assert "/var/lib/shipper" in shown.stdout.splitlines()[-1]


def test_the_probe_fails_only_while_no_shipper_process_runs(app: App, service: Service) -> None:
    assert PROBE is not None
    folder = app.folder / "bin"
    folder.mkdir()
    (folder / "shipper").write_text(f'#!/bin/sh\nexec {sys.executable} -m shipper.cli "$@"\n')
    (folder / "shipper").chmod(0o755)
    environment = {**app.environment, "SHIPPER_SPOOL": str(app.spool), "PATH": f"{folder}:{os.environ['PATH']}"}

    def probe() -> int:
        return subprocess.run(["sh", "-c", PROBE[1]], env=environment, capture_output=True, check=False).returncode

    assert probe() == 1
    service.away = True
    script = app.write("begin(); log.error('x'); print('up', flush=True); sys.stdin.readline()")
    with app.running(sys.executable, str(script), stdin=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        app.wait_for_shipper()
        assert probe() == 0
        service.away = False
        process.communicate("\n", timeout=PATIENCE)
    app.wait_for_end()


# systemd.


def unit() -> str:
    found = re.search(r"```ini\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_unit_of_the_documentation_is_one(tmp_path: Path) -> None:
    need(shutil.which("systemd-analyze"), "systemd-analyze")
    path = tmp_path / "shop.service"
    path.write_text(unit().replace("/srv/shop/bin/gunicorn", "/bin/true"))

    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)

    assert "shop.service" not in done.stderr, done.stderr


def test_a_stop_as_systemd_does_it_by_default_loses_nothing(app: App) -> None:
    """SIGTERM goes to the whole group, and again to the processes that are left when the main one has ended."""
    script = app.write("""
        begin()
        ending = []
        signal.signal(signal.SIGTERM, lambda *_: ending.append(time.monotonic() + 1))
        print("up", flush=True)
        number = 0
        while not ending or time.monotonic() < ending[0]:
            log.error("record %d", number)
            number += 1
            time.sleep(0.005)
        print(number, flush=True)
    """)
    with app.running(sys.executable, str(script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        app.wait_for("record 10")
        for pid in (process.pid, *shippers_of(app.spool)):
            os.kill(pid, signal.SIGTERM)
        count = int(process.stdout.readline())
        process.wait(PATIENCE)
        for pid in shippers_of(app.spool):
            os.kill(pid, signal.SIGTERM)
        assert holds(lambda: not shippers_of(app.spool), 15)

    assert set(app.messages()) == {f"record {number}" for number in range(count)}


# cron.


def test_jobs_with_the_environment_of_cron(app: App) -> None:
    """A job that ends at once, and the commands of the documentation, with hardly more variables than cron sets."""
    lines = [line for line in DOCUMENT.splitlines() if re.match(r"[\d*].*  shop  ", line)]
    report, backup, clean = (line.split("  shop  ")[1] for line in lines)
    home = app.folder / "home"
    home.mkdir(mode=0o700)
    app.write(JOB.replace("int(sys.argv[1])", "3").replace("sys.argv[2]", "'report'").replace("int(sys.argv[3])", "0"))
    stand_ins = {
        "/srv/shop/bin/python /srv/shop/report.py": f"{sys.executable} {app.folder}/app.py",
        "pg_dump shop": "sh -c 'echo dumped; echo role missing >&2'",
        "/backup/shop.sql": f"{app.folder}/shop.sql",
        "/srv/shop/bin/python /srv/shop/clean.py": "false",
        "/srv/shop/bin/shipper": f"{sys.executable} -m shipper.cli",
    }
    environment = {
        "HOME": str(home), "LOGNAME": "shop", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin",
        "SHIPPER_TRAKERR_API_KEY": "key", "SHIPPER_TRAKERR_URL": app.server.url, "SHIPPER_TRAKERR_LEVEL": "DEBUG",
        "TEST_URL": app.server.url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    for command in (report, backup, clean):
        for written, here in stand_ins.items():
            command = command.replace(written, here)
        subprocess.run(["/bin/sh", "-c", command], env=environment, cwd=home, check=True, timeout=PATIENCE)

    app.wait_for("report 0", "report 1", "report 2", "role missing", "cleaning failed")
    assert (app.folder / "shop.sql").read_text() == "dumped\n"
    assert holds(lambda: not [each for each in psutil.process_iter() if _is_of(each, home)], 30)


def _is_of(process: psutil.Process, home: Path) -> bool:
    try:
        return "shipper: " in " ".join(process.cmdline()) and str(home) in " ".join(process.cmdline())
    except psutil.Error:
        return False


# Functions that are frozen.

FUNCTION = re.search(r"```python\n# orders\.py\n(.*?)```", DOCUMENT, re.DOTALL)
RUNTIME = """
import json, sys
import orders
for line in iter(sys.stdin.readline, "end\\n"):
    orders.handler({"order": line.strip()}, None)
    print("done", flush=True)
"""


def test_a_function_that_is_frozen_between_its_invocations(app: App, service: Service) -> None:
    """The module of the documentation: all its processes are stopped in between, and its connections die."""
    assert FUNCTION is not None
    source = FUNCTION[1].replace('"api-key"', '"key", url=os.environ["TEST_URL"], level=0')
    (app.folder / "orders.py").write_text("import os\n" + source.replace('"/tmp/shipper"', 'os.environ["TEST_SPOOL"]'))
    (app.folder / "runtime.py").write_text(RUNTIME)

    with app.running(sys.executable, str(app.folder / "runtime.py"), stdin=True, cwd=app.folder) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            service.away = number == 1  # what is left is delivered during the next invocation
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            assert "done\n" in iter(process.stdout.readline, "")  # skips what the shipper process prints before
            if number == 0:  # later ones may wait for the next try at the service that was away
                assert "order 0" in app.messages()
            pids = [process.pid, *shippers_of(app.spool)]
            _signal(pids, signal.SIGSTOP)
            app.server.drop_connections()
            pass_time(1.0)
            service.away = False
            _signal(pids, signal.SIGCONT)
        process.communicate("end\n", timeout=PATIENCE)
    app.wait_for_end()

    assert {f"order {number}" for number in range(3)} <= set(app.messages())


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def test_a_function_without_shared_memory_in_a_read_only_root(app: App) -> None:
    """As on Lambda: only /tmp is writable."""
    need_containers()
    words = ["--read-only", "--tmpfs", "/tmp", "--user", "993:990", "-e", "SHIPPER_SPOOL=/tmp/shipper", "orders"]

    job(app, container(app, words, shm=False), "invoked", 50)

    assert len(received(app, "invoked")) == 50
