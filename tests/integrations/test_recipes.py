"""The recipes of the integrations' document, verbatim, in the application of each framework's quick-start tutorial."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper import integrations

from ..support.apps import App, shippers_of
from ..support.events import events_at
from ..support.http_backends import NO_ANSWER, free_port
from ..support.needs import need
from ..support.servers import Server
from ..support.waiting import PATIENCE, holds, wait_until

DOCUMENT = Path(integrations.__file__).with_name("README.md").read_text()
BACKEND = 'shipper.Trakerr("api-key")'

FASTAPI = """
import logging
@app.get("/items/{item_id}")
def read_item(item_id: int, q: str | None = None):
    logging.getLogger("shop").warning("item %d", item_id)
    return "ok"
"""
FLASK = """
import logging
@app.route("/items/<int:item_id>")
def hello_world(item_id):
    logging.getLogger("shop").warning("item %d", item_id)
    return "<p>Hello, World!</p>"
"""
DJANGO = """
import logging
from django.http import HttpResponse
from django.urls import path
def index(request, item_id):
    logging.getLogger("shop").warning("item %d", item_id)
    return HttpResponse("Hello, world. You're at the polls index.")
urlpatterns = [path("items/<int:item_id>", index)]
"""
GUNICORN = """
import logging
def app(environ, start_response):
    logging.getLogger("shop").warning("item %s", environ["PATH_INFO"].rpartition("/")[2])
    data = b"Hello, World!\\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return iter([data])
"""
CELERY = """
import logging
@app.task
def add(x, y):
    logging.getLogger("shop").warning("item %d", x + y)
    return x + y
"""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        made.environment.update(SHIPPER_SPOOL=str(spool), PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
        yield made
        made.wait_for_end(20)


def recipe(heading: str, app: App, *, language: str = "python") -> str:
    """Return the first block below the heading, with a backend that sends to the test's server."""
    found = re.search(rf"^## {re.escape(heading)}.*?^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert BACKEND in found[1] or language != "python"
    return found[1].replace(BACKEND, f'shipper.Trakerr("api-key", url="{app.server.url}")')


def write(app: App, name: str, text: str) -> None:
    (app.folder / name).write_text(text)


def serve_items(app: App, port: int, *command: str, path: str = "items") -> list[dict[str, Any]]:
    """Run the server, ask for 20 items, end it; return the events of the items, which have all arrived."""

    def asked(number: int) -> bool:
        return status_of(f"http://127.0.0.1:{port}/{path}/{number}") == 200

    with app.running(sys.executable, "-m", *command, cwd=app.folder) as process:
        wait_until(lambda: asked(0), 20, "the server's answer")
        assert all(asked(number) for number in range(1, 20))
        assert holds(lambda: len(shippers_of(app.spool)) == 1)
        process.terminate()
        process.wait(PATIENCE)
    app.wait_for(*(f"item {number}" for number in range(20)))
    found = [event for event in events_at(app.server) if event["eventMessage"].startswith("item ")]
    assert len({event["eventMessage"] for event in found}) == 20
    return found


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return int(answer.status)
    except NO_ANSWER:
        return 0


def test_fastapi(app: App) -> None:
    need(importlib.util.find_spec("fastapi"), "fastapi")
    write(app, "main.py", recipe("FastAPI", app) + FASTAPI)
    port = free_port()

    events = serve_items(app, port, "uvicorn", "main:app", "--port", str(port))

    assert all("path=/items/" in str(event["customProperties"]) for event in events)


def test_flask(app: App) -> None:
    need(importlib.util.find_spec("flask"), "flask")
    write(app, "hello.py", recipe("Flask", app) + FLASK)
    port = free_port()

    events = serve_items(app, port, "flask", "--app", "hello", "run", "--port", str(port))

    assert all("endpoint=hello_world" in str(event["customProperties"]) for event in events)


def test_django(app: App) -> None:
    """`django-admin startproject`, with the recipe's entries added to the lists that are there."""
    need(importlib.util.find_spec("django"), "django")
    start = [sys.executable, "-m", "django", "startproject", "mysite", str(app.folder)]
    subprocess.run(start, env=app.environment, check=True, timeout=PATIENCE)
    text = recipe("Django", app).replace("INSTALLED_APPS = ", "INSTALLED_APPS += ")
    text = text.replace("MIDDLEWARE = [", "MIDDLEWARE[:0] = [")
    settings = app.folder / "mysite" / "settings.py"
    settings.write_text(f"{settings.read_text()}\n{text}")
    (app.folder / "mysite" / "urls.py").write_text(DJANGO)
    app.environment["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    port = free_port()

    events = serve_items(app, port, "django", "runserver", "--noreload", str(port))

    assert all("route=items/<int:item_id>" in str(event["customProperties"]) for event in events)


def test_gunicorn(app: App) -> None:
    need(importlib.util.find_spec("gunicorn"), "gunicorn")
    write(app, "gunicorn.conf.py", recipe("gunicorn", app))
    write(app, "myapp.py", GUNICORN)
    port = free_port()

    serve_items(app, port, "gunicorn", "-w", "4", "-b", f"127.0.0.1:{port}", "--no-control-socket", "myapp:app")


def test_uwsgi(app: App) -> None:
    program = shutil.which("uwsgi")
    if program is None:
        pytest.skip("uWSGI is not here (pip install uwsgi, or pyuwsgi)")
    write(app, "shop.py", f'import shipper\nshipper.start(shipper.Trakerr("k", url="{app.server.url}"))\n{GUNICORN}')
    write(app, "uwsgi.ini", recipe("uWSGI", app, language="ini"))
    port = free_port()
    with app.running(program, "--ini", "uwsgi.ini", "--http-socket", f"127.0.0.1:{port}", cwd=app.folder) as process:
        wait_until(lambda: status_of(f"http://127.0.0.1:{port}/items/0") == 200, 20, "uWSGI's answer")
        assert all(status_of(f"http://127.0.0.1:{port}/items/{number}") == 200 for number in range(1, 20))
        app.wait_for(*(f"item {number}" for number in range(20)))
        assert len(shippers_of(app.spool)) == 1
        process.terminate()
        process.wait(PATIENCE)


def test_celery(app: App) -> None:
    """With Redis, as in the tutorial: the worker, and a task that is called from a shell."""
    need(importlib.util.find_spec("celery") and shutil.which("redis-server"), "celery and redis-server")
    port = free_port()
    text = recipe("Celery", app).replace("redis://localhost", f"redis://localhost:{port}")
    write(app, "tasks.py", text + CELERY)
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(app.folder)], stdout=subprocess.DEVNULL
    )
    calls = "from tasks import add\nfor number in range(20): add.delay(number, 0)"
    try:
        with app.running(
            sys.executable, "-m", "celery", "-A", "tasks", "worker", "--loglevel=INFO", "-c", "2", cwd=app.folder
        ) as worker:
            subprocess.run(
                [sys.executable, "-c", calls], cwd=app.folder, env=app.environment, check=True, timeout=PATIENCE
            )
            app.wait_for(*(f"item {number}" for number in range(20)), timeout=30)
            worker.terminate()
            worker.wait(PATIENCE)
    finally:
        redis.terminate()
        redis.wait(PATIENCE)

    events = [event for event in events_at(app.server) if event["eventMessage"].startswith("item ")]
    assert len(events) == 20
    assert all("task_name=tasks.add" in str(event["customProperties"]) for event in events)
