"""Clients in several processes of one app, each with keys of its own: all are served, by one shipper process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shipper.spool.layout import Spool
from shipper.spool.lock import LockInfo, running

from ..support.apps import shippers_of
from ..support.jkool_service import is_event
from ..support.servers import Server
from ..support.waiting import holds, wait_until

PROGRAM = """
import logging, os, sys, shipper
from shipper.jkool import streaming
from shipper.trakerr import TrakerrClient, TrakerrHandler

own = shipper.Trakerr("own", url=os.environ["SHIPPER_TRAKERR_URL"])

for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Worker:
    """A process of the app that runs the lines of Python on its stdin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, *lines: str) -> None:
        """Run each line of Python in it; AssertionError when one fails."""
        assert self._process.stdout is not None
        for line in lines:
            self.command(line)
            assert self._process.stdout.readline() == "done\n", line

    def command(self, line: str) -> None:
        """Send a line of Python and do not wait; the process may end while it runs the line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


class Together:
    """The workers of an app, the server that they ship to, and what has arrived there."""

    def __init__(self, server: Server, spool: Path, stack: ExitStack) -> None:
        self._server = server
        self._spool = spool
        self._stack = stack

    def worker(self) -> Worker:
        """Start a worker; it ends with the test."""
        environment = {
            **os.environ,
            "SHIPPER_APP": "together",
            "SHIPPER_SPOOL": str(self._spool),
            "SHIPPER_GRACE": "1",
            "SHIPPER_TRAKERR_URL": self._server.url,
            "SHIPPER_JKOOL_URL": self._server.url,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(process)
        return Worker(process)

    def arrived(self) -> dict[str, set[str]]:
        """Return the messages that arrived under each key or token."""
        found = defaultdict(set)
        for request in list(self._server.requests):
            if is_event(request):
                event = json.loads(request.body)
                key = event.get("apiKey") or request.headers["x-api-key"]
                found[key].add(event.get("eventMessage") or event["msg-text"])
        return dict(found)

    def wait_for(self, **messages: set[str]) -> None:
        """Return when each key has got exactly its messages."""
        if not holds(lambda: self.arrived() == messages, 20.0):
            assert self.arrived() == messages

    def pid(self) -> int:
        """Return the pid of the shipper process; 0 while none runs, or while it is starting."""
        return (running(Spool(str(self._spool))) or LockInfo()).pid

    def shippers(self) -> list[int]:
        return shippers_of(self._spool)


@pytest.fixture
def together(spool: Path) -> Iterator[Together]:
    with Server() as server:
        with ExitStack() as stack:
            yield Together(server, spool, stack)
        wait_until(lambda: running(Spool(str(spool))) is None, 10.0, "the shipper process ends")


def test_the_clients_of_every_process_are_served_whoever_came_last(together: Together) -> None:
    first, second, third = together.worker(), together.worker(), together.worker()
    first.do("client = TrakerrClient('k1')")
    second.do("client = TrakerrClient('k2')")
    third.do("client = TrakerrClient('k1')")

    for number, worker in enumerate((first, second, third)):
        worker.do(f"client.log({{'eventmessage': 'from {number}'}}, exc_info=False)")

    together.wait_for(k1={"from 0", "from 2"}, k2={"from 1"})
    assert len(together.shippers()) == 1


def test_a_token_is_not_taken_for_that_of_another_process_s_handler(together: Together) -> None:
    """Both handlers ship to jKool, and each event goes out with its own handler's token."""
    first, second = together.worker(), together.worker()
    for token, worker in (("t1", first), ("t2", second)):
        worker.do(f"logging.getLogger('a').addHandler(streaming.jKoolHandler('{token}'))")

    for number, worker in enumerate((first, second, first)):
        worker.do(f"logging.getLogger('a').error('from {number}')")

    together.wait_for(t1={"from 0", "from 2"}, t2={"from 1"})


def test_records_do_not_go_to_a_key_that_another_process_s_client_joined(together: Together) -> None:
    first, second = together.worker(), together.worker()
    first.do("shipper.start(own)")
    second.do("shipper.start(own)", "client = TrakerrClient('other')")

    second.do("client.log({'eventmessage': 'for other'}, exc_info=False)", "shipper.flush(60)")
    first.do("logging.warning('for own')")

    together.wait_for(own={"for own"}, other={"for other"})


def test_a_start_with_other_settings_leaves_what_clients_elsewhere_have_joined(together: Together) -> None:
    first, second = together.worker(), together.worker()
    first.do("client = TrakerrClient('k1')")
    second.do("shipper.start(own)")

    first.do("client.log({'eventmessage': 'for k1'}, exc_info=False)")
    second.do("logging.warning('for own')")

    together.wait_for(k1={"for k1"}, own={"for own"})


def test_clients_are_served_again_after_the_shipper_process_was_killed(together: Together) -> None:
    """The process that starts the next one knows only its own clients; the other processes join theirs."""
    workers = [together.worker() for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.do(f"client = TrakerrClient('k{number}')")
    wait_until(lambda: together.pid() > 0, 10.0, "a shipper process")

    os.kill(together.pid(), signal.SIGKILL)
    for worker in workers:
        worker.do("client.log({'eventmessage': 'after'}, exc_info=False)")

    together.wait_for(k0={"after"}, k1={"after"}, k2={"after"})


def test_a_process_that_is_killed_as_soon_as_it_has_joined_has_its_events_delivered(together: Together) -> None:
    """The shipper process, started for the first client, is still starting at that moment."""
    worker = together.worker()

    worker.command(
        "first, client = TrakerrClient('k1'), TrakerrClient('k2');"
        "client.log({'eventmessage': 'last words'}, exc_info=False);"
        "os.kill(os.getpid(), 9)"
    )

    together.wait_for(k2={"last words"})


def test_a_client_that_joins_does_not_restart_the_shipper_process(together: Together) -> None:
    worker = together.worker()
    worker.do("client = TrakerrClient('k1')", "assert client.shutdown(60)")
    before = together.shippers()

    worker.do("logging.getLogger('a').addHandler(streaming.jKoolHandler('t'))", "logging.getLogger('a').error('x')")

    together.wait_for(t={"x"})
    assert together.shippers() == before


def test_a_process_that_knows_fewer_clients_does_not_replace_the_one_that_runs(together: Together) -> None:
    first, second = together.worker(), together.worker()
    first.do("client, more = TrakerrClient('k1'), TrakerrClient('k2')")
    first.do("client.log({'eventmessage': 'one'}, exc_info=False)", "more.log({'eventmessage': 'two'}, exc_info=False)")
    together.wait_for(k1={"one"}, k2={"two"})
    before = together.shippers()

    second.do("client = TrakerrClient('k1')", "client.log({'eventmessage': 'three'}, exc_info=False)")

    together.wait_for(k1={"one", "three"}, k2={"two"})
    assert together.shippers() == before
