"""The derived name of an app without a name: it stays the same in a process, and upgrades keep the spool's events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.servers import Server


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        made.environment["XDG_STATE_HOME"] = str(spool)
        yield made


def test_a_process_keeps_its_name_when_its_program_seems_to_be_another_one(app: App) -> None:
    """Such as a gunicorn worker that calls `start` in gunicorn.conf.py, and again after loading the application."""
    app.run("""
        import __main__
        begin(app=None, spool=None)
        first = shipper.status().app
        del __main__.__file__
        sys.argv[0] = "-c"
        begin(app=None, spool=None, level=20)
        assert shipper.status().app == first
        shipper.start(shipper.Trakerr("another-key", url=os.environ["TEST_URL"]))
        assert shipper.status().app != first
        shipper.stop(60)
    """)


def test_what_an_earlier_version_has_left_under_a_name_without_destinations_is_delivered(app: App) -> None:
    app.run("""
        from shipper.config.app_name import default_app
        from shipper.config.state_folder import default_folder
        from shipper.spool.layout import Spool
        from shipper.spool.lock import running
        earlier = Spool(default_folder(default_app()))
        shipper.start(shipper.Trakerr("the-secret-key", url="http://127.0.0.1:1", level=0), app=default_app(), grace=0)
        log.error("left by the earlier version")
        shipper.stop(0)
        while running(earlier):
            time.sleep(0.01)
        begin(app=None, spool=None)
        assert shipper.stop(60).flushed
        assert not os.path.exists(earlier.path)
    """)

    app.wait_for("left by the earlier version")
