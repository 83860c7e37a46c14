"""uWSGI forks in C, without Python's fork hooks: no thread may exist then. A fake replaces its Python module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.servers import Server

UWSGI = """
import ctypes, types
uwsgi = sys.modules["uwsgi"] = types.ModuleType("uwsgi")
uwsgi.worker, uwsgi.master = 0, {master}
uwsgi.worker_id = lambda: uwsgi.worker
uwsgi.mule_id = lambda: 0
uwsgi.i_am_the_spooler = lambda: None
uwsgi.masterpid = lambda: uwsgi.master

def threads():
    return sorted(each.name for each in threading.enumerate() if each.name.startswith("shipper-"))
"""


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def test_no_thread_starts_before_the_fork_and_the_worker_starts_its_own_at_its_first_record(app: App) -> None:
    done = app.run(UWSGI.format(master="os.getpid()") + """
begin()
log.warning("in the master")
print(threads(), flush=True)
if ctypes.CDLL(None).fork() == 0:
    uwsgi.worker = 1
    print(threads(), flush=True)
    log.warning("in the worker")
    print(threads(), shipper.flush(20), flush=True)
    os._exit(0)
os.wait()
shipper.stop(10)
""")  # fmt: skip

    assert done.stdout.splitlines() == ["[]", "[]", "['shipper-supervisor'] True"]
    assert sorted(app.messages()) == ["in the master", "in the worker"]
    assert done.stderr == ""


def test_what_does_not_fit_into_the_pipe_before_the_fork_starts_no_thread_and_arrives(app: App) -> None:
    done = app.run(UWSGI.format(master="os.getpid()") + """
begin()
pid = None
while not pid:
    pid = shipper.status().pid
os.kill(pid, signal.SIGSTOP)
for number in range(40):
    log.warning("%d %s", number, "z" * 60000)
print(threads(), flush=True)
os.kill(pid, signal.SIGCONT)
print(shipper.stop(30).flushed)
""")  # fmt: skip

    assert done.stdout.splitlines() == ["[]", "True"]
    assert len(app.messages()) == 40


def test_without_a_master_the_first_process_starts_its_thread_when_it_becomes_a_worker(app: App) -> None:
    done = app.run(UWSGI.format(master=0) + """
uwsgi.post_fork_hook = lambda: print("the application's own hook")
begin()
print(threads())
uwsgi.worker = 1
uwsgi.post_fork_hook()
print(threads())
shipper.stop(10)
""")  # fmt: skip

    assert done.stdout.splitlines() == ["[]", "the application's own hook", "['shipper-supervisor']"]


@pytest.mark.parametrize("setup", ["uwsgi.worker = 1", "del uwsgi.worker_id"], ids=["lazy apps", "another module"])
def test_a_process_that_will_not_fork_starts_its_thread_at_once(app: App, setup: str) -> None:
    done = app.run(UWSGI.format(master=0) + f"""
{setup}
begin()
print(threads())
shipper.stop(10)
""")  # fmt: skip

    assert done.stdout.splitlines() == ["['shipper-supervisor']"]
