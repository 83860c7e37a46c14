"""Servers and tools that replace their processes while they work: every answered request's line has arrived, once."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ..support.apps import App, shippers_of
from ..support.http_backends import free_port
from ..support.needs import need
from ..support.servers import Server
from ..support.waiting import PATIENCE, holds, wait_until
from .test_starts import ASGI, WSGI, fetched

LINE = re.compile(r"/(\d+) by (\d+)")

FLASK = """
from flask import Flask
from shipper.integrations.flask import ShipperFlask
begin(app=None)
log.setLevel(logging.INFO)
app = Flask(__name__)
ShipperFlask(app)
@app.get("/<path:path>")
def answer(path):
    log.info("%s", f"/{path} by {os.getpid()}")
    return "ok"
"""

DJANGO = """
import django.http, django.urls
DEBUG, SECRET_KEY, ALLOWED_HOSTS, ROOT_URLCONF = True, "x", ["*"], __name__
INSTALLED_APPS = ["shipper.integrations.django.ShipperConfig"]
MIDDLEWARE = ["shipper.integrations.django.ShipperMiddleware"]
SHIPPER = {
    "backends": [shipper.Trakerr("key", url=os.environ["TEST_URL"], level=0)],
    "app": "test", "spool": os.environ["TEST_SPOOL"],
}
def answer(request, path):
    log.warning("%s", f"/{path} by {os.getpid()}")
    return django.http.HttpResponse("ok")
urlpatterns = [django.urls.path("<path:path>", answer)]
"""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        made.environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        yield made
        made.wait_for_end(20)


class Client:
    """Asks for one path after the other, and notes those that were answered."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._next = 0
        self.answered: list[int] = []

    def ask(self, count: int = 1) -> None:
        for _ in range(count):
            if fetched(f"http://127.0.0.1:{self._port}/{self._next}"):
                self.answered.append(self._next)
            self._next += 1

    def ask_until(self, condition: object) -> None:
        assert callable(condition)

        def met() -> object:
            self.ask()
            return condition()

        wait_until(met, 20, "a change of the server's processes")

    def wait_until_up(self) -> None:
        self.ask_until(lambda: self.answered)


def lines_of_requests(app: App) -> list[tuple[int, int]]:
    """Return request number and worker pid of every event that arrived; one that came twice counts once."""
    events = {request.headers["idempotency-key"]: request.body for request in list(app.server.requests)}
    found = (LINE.fullmatch(json.loads(body)["eventMessage"]) for body in events.values())
    return [(int(line[1]), int(line[2])) for line in found if line]


def workers_of(app: App) -> set[int]:
    """The processes whose lines have arrived."""
    return {pid for _, pid in lines_of_requests(app)}


def everything_arrived(app: App, client: Client) -> None:
    assert len(client.answered) >= 20
    assert holds(lambda: set(client.answered) <= {number for number, _ in lines_of_requests(app)}, 15)
    lines = lines_of_requests(app)
    assert len(lines) == len(set(lines))


def gunicorn(app: App, port: int, *options: str) -> list[str]:
    need(importlib.util.find_spec("gunicorn"), "gunicorn")
    app.write(WSGI, "site_of_test.py")
    return [
        sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", "--no-control-socket",
        *options, "site_of_test:app",
    ]  # fmt: skip


def end(process: subprocess.Popen[str] | psutil.Process) -> None:
    process.terminate()
    process.wait(PATIENCE)


@pytest.mark.parametrize("options", [[], ["--preload"], ["-k", "gthread", "--threads", "4"]], ids=" ".join)
def test_gunicorn_that_replaces_its_workers_at_a_hup(app: App, options: list[str]) -> None:
    port = free_port()
    client = Client(port)
    with app.running(*gunicorn(app, port, *options), cwd=app.folder) as process:
        client.wait_until_up()
        client.ask_until(lambda: workers_of(app))
        before = workers_of(app)
        process.send_signal(signal.SIGHUP)
        client.ask_until(lambda: workers_of(app) - before and len(client.answered) >= 20)
        assert holds(lambda: len(shippers_of(app.spool)) == 1)
        end(process)

    everything_arrived(app, client)


def test_gunicorn_whose_workers_end_after_some_requests(app: App) -> None:
    port = free_port()
    client = Client(port)
    with app.running(*gunicorn(app, port, "--max-requests", "5"), cwd=app.folder) as process:
        client.wait_until_up()
        client.ask_until(lambda: len(workers_of(app)) >= 4)
        client.ask(20)
        assert holds(lambda: len(shippers_of(app.spool)) == 1)
        end(process)

    everything_arrived(app, client)


def test_gunicorn_whose_master_is_replaced_at_a_usr2(app: App) -> None:
    """As an upgrade does it: a second master beside the first one, which then ends."""
    port = free_port()
    client = Client(port)
    pids = app.folder / "pid"
    with app.running(*gunicorn(app, port, "--pid", str(pids)), cwd=app.folder) as process:
        client.wait_until_up()
        client.ask(10)
        process.send_signal(signal.SIGUSR2)
        second = Path(f"{pids}.2")
        client.ask_until(lambda: second.exists() and second.read_text().strip())
        master = psutil.Process(int(second.read_text()))
        before = workers_of(app)
        client.ask_until(lambda: len(master.children()) >= 2)
        end(process)
        client.ask_until(lambda: workers_of(app) - before and len(client.answered) >= 20)
        assert holds(lambda: len(shippers_of(app.spool)) == 1)
        end(master)

    everything_arrived(app, client)


RELOADERS = {
    "uvicorn": (ASGI, ["uvicorn", "--reload", "--port", "{port}", "site_of_test:app"]),
    "flask": (FLASK, ["flask", "--app", "site_of_test", "run", "--debug", "--port", "{port}"]),
    "django": (DJANGO, ["django", "runserver", "--settings", "site_of_test", "127.0.0.1:{port}"]),
}


@pytest.mark.parametrize("name", RELOADERS)
def test_a_development_server_that_reloads_when_a_file_changes(app: App, name: str) -> None:
    need(importlib.util.find_spec(name), name)
    source, command = RELOADERS[name]
    script = app.write(source, "site_of_test.py")
    port = free_port()
    client = Client(port)
    with app.running(sys.executable, "-m", *(part.format(port=port) for part in command), cwd=app.folder) as process:
        client.wait_until_up()
        client.ask_until(lambda: workers_of(app))
        before = workers_of(app)
        script.write_text(script.read_text() + "\n# changed\n")
        client.ask_until(lambda: workers_of(app) - before)
        client.ask(20)
        assert holds(lambda: len(shippers_of(app.spool)) == 1)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)

    everything_arrived(app, client)


BEAT = """
    import celery
    from shipper.integrations.celery import ship
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "broker")
    os.makedirs(folder, exist_ok=True)
    options = {"data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "-control"}
    app = celery.Celery("shop", broker="filesystem://", broker_transport_options=options)
    app.conf.beat_schedule = {"tick": {"task": "shop.tick", "schedule": 1.0}}
    ship(app, shipper.Trakerr("key", url=os.environ["TEST_URL"], level=0), spool=os.environ["TEST_SPOOL"], app="test")
    @app.task(name="shop.tick")
    def tick():
        log.warning("tick")
"""


def test_celery_beat_in_a_process_of_its_own(app: App) -> None:
    need(importlib.util.find_spec("celery"), "celery")
    app.write(BEAT, "shop.py")
    celery = [sys.executable, "-m", "celery", "-A", "shop"]
    with (
        app.running(*celery, "worker", "-P", "solo", "-l", "INFO", cwd=app.folder) as worker,
        app.running(*celery, "beat", "-l", "INFO", "-s", str(app.folder / "schedule"), cwd=app.folder) as beat,
    ):
        app.wait_for("tick", "Scheduler: Sending due task tick (shop.tick)", timeout=30)
        assert len(shippers_of(app.spool)) == 1
        end(beat)
        end(worker)


KERNEL = """
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(startup_timeout=60)
    def cell(code):
        reply = client.execute_interactive(code, timeout=60)
        assert reply["content"]["status"] == "ok", reply
    START = '''
    import logging, os, shipper
    shipper.start(shipper.Trakerr("key", url=os.environ["TEST_URL"], level=0), app="test",
                  spool=os.environ["TEST_SPOOL"])
    log = logging.getLogger("notebook")
    '''
    import textwrap
    START = textwrap.dedent(START)
    try:
        cell(START)
        cell(START)  # a cell is run again
        cell("log.warning('first')")
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        cell(START)
        cell("log.warning('after the restart')")
        cell("assert shipper.flush(60)")
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
"""


def test_a_notebook_s_kernel_that_is_restarted(app: App) -> None:
    """The kernel is killed right after a record, as the notebook's button does it; cells are run again."""
    need(importlib.util.find_spec("ipykernel"), "ipykernel")
    app.environment["IPYTHONDIR"] = app.environment["JUPYTER_RUNTIME_DIR"] = str(app.folder)

    app.run(textwrap.dedent(KERNEL), timeout=60)

    app.wait_for("first", "after the restart")
    assert sorted(message for message in app.messages() if "first" in message or "restart" in message) == [
        "after the restart", "first",
    ]  # fmt: skip
