"""The jKool client with servers that are down, slow or refuse, and in processes that fork.

J3 to J19 are defects of the old client; each docstring says what the old client did.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import shipper
from shipper.jkool import streaming

from ..support.http_backends import free_port
from ..support.jkool_service import FQN, Service, an_application, is_event, running_service
from ..support.servers import HANG, Reply, Request
from ..support.waiting import PATIENCE, scaled, wait_until

REFUSAL = b"<access-resp><token>t</token><success>false</success><reason>unknown</reason></access-resp>"


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    made = logging.getLogger(f"own.{request.node.name}")
    made.setLevel(logging.INFO)
    yield made
    made.handlers.clear()


def test_a_server_that_is_down_is_no_error_and_gets_the_events_later(spool: Path, silent: logging.Logger) -> None:
    """J6, J7: NameError was raised at construction and at each event; the handler never recovered."""
    port = free_port()
    with an_application(spool, f"http://127.0.0.1:{port}"):
        silent.addHandler(streaming.jKoolHandler("your-token"))
        silent.error("first")
        streaming.logEvent(silent, "second", FQN)
        wait_until(lambda: shipper.status().backends[0].retried > 0, 10.0, "a try that failed")

        with Service(port=port) as service:
            events = service.wait_for_events(2)
            assert shipper.flush(PATIENCE)

    assert {event["msg-text"] for event in events} == {"first", "second"}


def test_every_connection_begins_with_an_access_request(spool: Path, silent: logging.Logger) -> None:
    """J7, J8: after a connection was closed, events raised NameError, or went out unauthenticated."""

    def answer(request: Request) -> Reply:
        return Reply(then="close" if is_event(request) else "keep")

    with running_service(spool, answer) as service:
        silent.addHandler(streaming.jKoolHandler("your-token"))
        for number in range(3):
            silent.error("m%d", number)
        events = service.wait_for_events(3)
        used = [requests for requests in service.connections if requests]

    assert {event["msg-text"] for event in events} == {"m0", "m1", "m2"}
    assert len(used) > 1
    assert not any(is_event(requests[0]) for requests in used)


def test_a_dropped_connection_loses_nothing(spool: Path, silent: logging.Logger) -> None:
    """J7: after the server had closed an idle connection, nothing more was sent."""
    with running_service(spool) as service:
        silent.addHandler(streaming.jKoolHandler("your-token"))
        silent.error("before")
        service.wait_for_events(1)
        service.drop_connections()
        silent.error("after")

        assert [event["msg-text"] for event in service.wait_for_events(2)] == ["before", "after"]


def test_the_token_is_escaped_and_on_every_request(spool: Path, silent: logging.Logger) -> None:
    """J13: the token was put into the XML without escaping."""
    with running_service(spool) as service:
        silent.addHandler(streaming.jKoolHandler("a<b>&ü"))
        silent.error("m")
        service.wait_for_events(1)

    first = service.requests[0]
    assert first.body.decode() == "<access-request><token>a&lt;b&gt;&amp;ü</token></access-request>"
    assert {request.headers["x-api-key"] for request in service.requests} == {"a<b>&ü"}


def test_a_logging_call_does_not_wait_for_a_server_that_never_answers(spool: Path, silent: logging.Logger) -> None:
    """J9, J19: each call waited for the answer, and after 10 s raised TimeoutError into the application."""
    with running_service(spool, default=HANG) as service:
        silent.addHandler(streaming.jKoolHandler("your-token"))
        silent.error("first")
        service.wait_for(1)
        began = time.monotonic()
        for _ in range(200):
            streaming.logEvent(silent, "m", FQN)
        took = time.monotonic() - began

    assert took < scaled(2)


def test_an_event_is_sent_again_until_the_server_takes_it(spool: Path, silent: logging.Logger) -> None:
    """J11: 500 and 503 were printed, and the event was lost."""
    answers = iter([Reply(503), Reply(500)])

    def answer(request: Request) -> Reply | None:
        return next(answers, None) if is_event(request) else None

    with running_service(spool, answer) as service:
        silent.addHandler(streaming.jKoolHandler("your-token"))
        streaming.logEvent(silent, "m", FQN)
        events = service.wait_for_events(3)

    assert len({event["tracking-id"] for event in events}) == 1


@pytest.mark.parametrize("refusal", [Reply(200, body=REFUSAL), Reply(401), Reply(403)])
def test_a_refused_token_keeps_the_events(spool: Path, silent: logging.Logger, refusal: Reply) -> None:
    """J11, J12: a refusal with status 200 counted as authorised; one with 401 or 403 lost the event."""
    with running_service(spool, default=refusal) as service:
        silent.addHandler(streaming.jKoolHandler("wrong"))
        silent.error("m")
        wait_until(lambda: shipper.status().backends[0].state == "unauthorised", 10.0, "unauthorised")
        backend = shipper.status().backends[0]

    assert service.arrived() == []
    assert (backend.left, backend.dead) == (1, 0)


FORKS = """
import logging, os, sys
from shipper.jkool import streaming

if __name__ == "__main__":
    logger = logging.getLogger("jKool logger")
    logger.setLevel(logging.INFO)
    logger.addHandler(streaming.jKoolHandler("your-token"))
    streaming.logEvent(logger, "parent before", "APPL=a")
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            for number in range(5):
                streaming.logEvent(logger, f"child {child} {number}", "APPL=a")
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    streaming.logEvent(logger, "parent after", "APPL=a")
"""


def test_forked_children_send_whole_events_with_ids_of_their_own(spool: Path, tmp_path: Path) -> None:
    """J3, J17: children shared the parent's socket and its tracking id; requests were mixed up and lost."""
    with running_service(spool) as service:
        done = run(tmp_path, FORKS)
        events = service.wait_for_events(22)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wanted = {f"child {child} {number}" for child in range(4) for number in range(5)}
    assert {event["msg-text"] for event in events} == wanted | {"parent before", "parent after"}
    assert len(events) == len({event["tracking-id"] for event in events}) == 22


def test_a_program_that_ends_without_closing_anything_loses_nothing(spool: Path, tmp_path: Path) -> None:
    with running_service(spool) as service:
        program = """
            import logging
            from shipper.jkool import streaming

            logger = logging.getLogger("jKool logger")
            hdlr = streaming.jKoolHandler("jkool-api-access-token")
            logger.addHandler(hdlr)
            logger.error("Test log")
        """
        done = run(tmp_path, program)
        (event,) = service.wait_for_events(1)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert event["msg-text"] == "Test log"


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    file = folder / "program.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "error", str(file)],
        cwd=folder,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
