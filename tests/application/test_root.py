"""A process changes its root (chroot) after `start()`: its spool's path leads nowhere, and its queue is still open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.needs import need
from ..support.servers import Server


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    need(os.geteuid() == 0, "the right to change the root")
    (tmp_path / "root").mkdir()
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end(30)


def test_it_is_said_once_what_is_logged_arrives_and_nothing_is_waited_for_in_vain(app: App) -> None:
    done = app.run(f"""
        from shipper.application.lifecycle import current
        begin()
        log.error("before")
        assert shipper.flush(60)
        os.chroot({str(app.folder / "root")!r})
        log.error("after")
        if os.fork() == 0:
            log.error("in a child")
            sys.exit()
        os.wait()
        assert current().queue.wait_until_read(time.monotonic() + 60)
        began = time.monotonic()
        flushed = shipper.flush(60)
        report = shipper.stop(60)
        print(flushed, report.flushed, report.emitted, report.waiting, time.monotonic() - began < 45)
    """)

    assert done.stdout == "False False 2 0 True\n"
    assert done.stderr.count("it has changed its root") == 2  # each process says it once
    assert "can't be started" not in done.stderr
    app.wait_for("before", "after", "in a child")


def test_a_further_start_uses_a_spool_in_the_new_root(app: App) -> None:
    """The new root has no Python to run a shipper process, so the event stays in the pipe of the new spool."""
    done = app.run(f"""
        begin()
        assert shipper.flush(60)
        os.chroot({str(app.folder / "root")!r})
        begin()
        log.error("later")
        print(os.listdir("/"), os.path.exists(os.environ["TEST_SPOOL"] + "/queue"), shipper.stop(0).waiting)
    """)

    first = Path(app.spool).parts[1]
    assert done.stdout == f"['{first}'] True 1\n"
    assert "the shipper process can't be started" in done.stderr
