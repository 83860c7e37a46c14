"""The ways in which workers are started: gunicorn, uvicorn, Celery's billiard, multiprocessing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ..support.apps import App, shippers_of
from ..support.http_backends import NO_ANSWER, free_port
from ..support.needs import need
from ..support.servers import Server
from ..support.waiting import PATIENCE, holds

WSGI = """
begin(app=None)
log.info("loaded by %d", os.getpid())
def app(environ, start_response):
    log.info("%s", environ["PATH_INFO"] + " by %d" % os.getpid())
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

ASGI = """
begin(app=None)
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    log.info("%s", scope["path"] + " by %d" % os.getpid())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def fetched(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return bool(answer.read() == b"ok")
    except NO_ANSWER:
        return False


def serve_and_check(app: App, *command: str, port: int, loads: int = 0) -> None:
    """Serve 40 requests; check that the line of each one arrives, through one shipper process."""
    with app.running(sys.executable, "-m", *command, cwd=app.folder) as process:
        assert holds(lambda: fetched(f"http://127.0.0.1:{port}/up"), 20), "it did not come up"
        for n in range(40):
            assert fetched(f"http://127.0.0.1:{port}/{n}")
        # A gunicorn worker that has not loaded the app yet ignores a SIGTERM, and is killed after 30 seconds.
        assert holds(lambda: sum(m.startswith("loaded by") for m in app.messages()) >= loads, 15)
        assert holds(lambda: len(shippers_of(app.spool)) == 1)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)

    paths = [f"/{n} by" for n in range(40)]
    assert holds(lambda: all(any(m.startswith(path) for m in app.messages()) for path in paths), 15)


@pytest.mark.parametrize(
    "options",
    [[], ["--preload"], ["-k", "gevent"]],
    ids=["each worker loads", "the master loads", "each worker loads under gevent"],
)
def test_gunicorn(app: App, options: list[str]) -> None:
    need(importlib.util.find_spec("gunicorn"), "gunicorn")
    need("gevent" not in options or importlib.util.find_spec("gevent"), "gevent")
    app.write(WSGI, "site_of_test.py")
    port = free_port()

    serve_and_check(
        app,
        "gunicorn",
        "-w",
        "2",
        "-b",
        f"127.0.0.1:{port}",
        "--no-control-socket",
        *options,
        "site_of_test:app",
        port=port,
        loads=1 if "--preload" in options else 2,
    )


LOOPS = {
    "gevent": "from gevent import monkey; monkey.patch_all(); import gevent as loop; join = 'get'",
    "eventlet": "import eventlet as loop; loop.monkey_patch(); join = 'wait'",
}


@pytest.mark.parametrize("library", LOOPS)
def test_an_event_loop_that_already_runs_is_no_obstacle_to_the_start(app: App, library: str) -> None:
    """While a loop runs, gevent closes a pipe only when the loop goes on."""
    need(importlib.util.find_spec(library), library)
    app.run(f"""
        import warnings; warnings.simplefilter("ignore")
        {LOOPS[library]}
        loop.sleep(0.01)
        def work():
            begin(); log.info("in the loop")
            assert shipper.stop(60).flushed
        getattr(loop.spawn(work), join)()
    """)

    assert app.messages() == ["in the loop"]


def test_uvicorn_with_workers(app: App) -> None:
    need(importlib.util.find_spec("uvicorn"), "uvicorn")
    app.write(ASGI, "site_of_test.py")
    port = free_port()

    serve_and_check(app, "uvicorn", "--workers", "2", "--port", str(port), "site_of_test:app", port=port)


def test_billiard_prefork_workers_that_may_have_no_children(app: App) -> None:
    need(importlib.util.find_spec("billiard"), "billiard (it comes with Celery)")
    app.run("""
        from billiard.pool import Pool
        def work(n):
            begin(); log.info("task %d", n)
            return os.getpid()
        if __name__ == "__main__":
            pool = Pool(2, maxtasksperchild=5)
            assert len(set(pool.map(work, range(20), chunksize=1))) > 2
            pool.close(); pool.join()
    """)

    app.wait_for(*(f"task {n}" for n in range(20)))


def test_billiard_workers_of_a_parent_that_has_started(app: App) -> None:
    need(importlib.util.find_spec("billiard"), "billiard (it comes with Celery)")
    app.run("""
        from billiard.pool import Pool
        def work(n):
            log.info("task %d", n)
        if __name__ == "__main__":
            begin(); log.info("parent")
            pool = Pool(2, maxtasksperchild=1)
            pool.map(work, range(10), chunksize=1)
            pool.close(); pool.join()
    """)

    app.wait_for("parent", *(f"task {n}" for n in range(10)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_whose_workers_live_for_one_task(app: App, method: str) -> None:
    app.run(f"""
        import multiprocessing
        def work(n):
            begin(); log.info("task %d", n)
        if __name__ == "__main__":
            begin()
            with multiprocessing.get_context("{method}").Pool(2, maxtasksperchild=1) as pool:
                pool.map(work, range(8), chunksize=1)
                pool.close(); pool.join()
    """)

    app.wait_for(*(f"task {n}" for n in range(8)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_executor_with_the_start_in_the_workers_only(app: App, method: str) -> None:
    app.run(f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        def work(n):
            log.info("task %d", n)
            return shipper.status().spool
        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            with ProcessPoolExecutor(3, mp_context=context, initializer=begin) as pool:
                assert len(set(pool.map(work, range(30)))) == 1
    """)

    app.wait_for(*(f"task {n}" for n in range(30)))


@pytest.mark.parametrize("method", [None, "spawn", "forkserver"])
def test_workers_ship_without_a_call_when_the_script_starts_it_at_its_top(app: App, method: str | None) -> None:
    """Under the default method too. Newer forkservers import the script themselves, before they fork workers."""
    app.run(f"""
        import multiprocessing
        begin()
        def work(n):
            log.info("task %d", n)
        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                pool.map(work, range(8), chunksize=1)
                pool.close(); pool.join()
    """)

    app.wait_for(*(f"task {n}" for n in range(8)))
    assert len(shippers_of(app.spool)) <= 1


def test_a_script_without_a_main_guard_may_start_it_under_spawn(app: App) -> None:
    app.run("""
        import multiprocessing
        multiprocessing.set_start_method("spawn")
        begin()
        log.info("unguarded")
        shipper.stop(60)
    """)

    assert app.messages() == ["unguarded"]


def test_a_daemonic_worker_may_start_it(app: App) -> None:
    app.run("""
        import multiprocessing
        def work():
            assert multiprocessing.current_process().daemon
            begin(); log.info("daemonic")
        if __name__ == "__main__":
            worker = multiprocessing.Process(target=work, daemon=True)
            worker.start(); worker.join()
    """)

    app.wait_for("daemonic")


def test_bare_forks_while_another_thread_logs(app: App) -> None:
    app.run("""
        begin()
        stopped = threading.Event()
        def noise():
            while not stopped.is_set(): log.info("noise"); time.sleep(0.001)
        thread = threading.Thread(target=noise); thread.start()
        for n in range(10):
            if os.fork() == 0:
                log.info("child %d", n)
                os._exit(0)
        for _ in range(10): assert os.wait()[1] == 0
        stopped.set(); thread.join()
        shipper.stop(60)
    """)

    app.wait_for(*(f"child {n}" for n in range(10)))
    assert len(shippers_of(app.spool)) <= 1
    assert os.path.isdir(app.spool)


@pytest.mark.parametrize("options", [["--enable-threads"], [], ["--enable-threads", "--lazy-apps"]], ids=" ".join)
def test_uwsgi_with_start_in_the_module(app: App, options: list[str]) -> None:
    """All requests are answered, all their records arrive, and all processes end."""
    uwsgi = shutil.which("uwsgi") or os.environ.get("UWSGI")
    if not uwsgi:
        pytest.skip("uWSGI is not here (pip install uwsgi; UWSGI= names one outside the PATH)")
    app.write(WSGI, "served.py")
    port = free_port()
    command = [str(uwsgi), "--http-socket", f"127.0.0.1:{port}", "--module", "served:app", "--master", "--need-app"]
    app.environment["PYTHONPATH"] = os.pathsep.join([str(app.folder), *filter(None, sys.path)])
    with app.running(*command, "--processes", "4", "--die-on-term", *options, cwd=app.folder) as process:
        assert holds(lambda: fetched(f"http://127.0.0.1:{port}/up"), 20), "it did not come up"
        for n in range(40):
            assert fetched(f"http://127.0.0.1:{port}/{n}")
        # uWSGI itself does not end a worker that gets a signal while it is starting.
        assert holds(lambda: len(psutil.Process(process.pid).children()) >= 4, 20)
        assert holds(lambda: sum(message.startswith("/") for message in app.messages()) >= 41, 20)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
