"""`flush` and the report distinguish delivered events from events that are only settled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.servers import Reply, Server


def answer(body: bytes) -> Reply:
    return Reply(400) if b"bad" in body else Reply()


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server(lambda request: answer(request.body)) as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def test_a_report_says_how_many_events_became_dead_letters_since_start(app: App) -> None:
    done = app.run("""
        for bad in (2, 1, 0):
            begin()
            for n in range(10): log.info("good %d", n)
            for n in range(bad): log.info("bad %d", n)
            report = shipper.stop(20)
            print(report.flushed, report.delivered, dict(report.dead), dict(report.left))
    """)

    assert done.stdout.splitlines() == [
        "True False {'trakerr': 2} {'trakerr': 0}",
        "True False {'trakerr': 1} {'trakerr': 0}",
        "True True {} {'trakerr': 0}",
    ]


def test_while_a_backend_refuses_everything_nothing_is_flushed_or_dead(spool: Path, tmp_path: Path) -> None:
    with Server(default=Reply(404)) as server:
        app = App(server, spool, tmp_path)
        done = app.run("""
            begin(grace=0.1)
            for n in range(20): log.info("event %d", n)
            while shipper.status().backends[0].state != "refused": time.sleep(0.02)
            print(shipper.flush(0.5), shipper.status().backends[0].state)
            report = shipper.stop(0.1)
            print(report.flushed, report.delivered, dict(report.dead), dict(report.left))
        """)
        app.wait_for_end()

    assert done.stdout.splitlines() == ["False refused", "False False {} {'trakerr': 20}"]
    assert done.stderr.count("refuses every event: HTTP 404") == 1

    with Server() as server:
        app = App(server, spool, tmp_path)
        app.run("begin(); assert shipper.stop(60).delivered")
        app.wait_for(*(f"event {n}" for n in range(20)))
        app.wait_for_end()
