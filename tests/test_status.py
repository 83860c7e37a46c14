"""How an app's shipper does, as its files tell it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from shipper.spool import Spool, write_atomically
from shipper.status import BackendStatus, Report, Status, read_status


@pytest.fixture
def place(spool: Path) -> Spool:
    made = Spool(str(spool))
    made.prepare()
    return made


def test_a_spool_that_never_was_in_use_is_all_zeros(tmp_path: Path) -> None:
    status = read_status(Spool(str(tmp_path / "nothing")), "shop")

    assert (status.app, status.running, status.pid, status.journaled, status.left) == ("shop", False, None, 0, 0)
    assert status.backends == ()


def test_what_is_left_is_what_came_less_what_became_of_it(place: Spool) -> None:
    write_atomically(
        place.status,
        {
            "app": "shop",
            "ledger": {"journaled": 100, "doubles": 2, "levels": {"INFO": 100}},
            "backends": {
                "a": {
                    "base": 10,
                    "counts": {"delivered": 50, "filtered": 5, "dead": 1, "quota": 2},
                    "oldest": time.time() - 9,
                },
                "b": {"base": 0, "counts": {"delivered": 102}, "oldest": 5.0},
            },
        },
    )

    status = read_status(place, "shop")

    first, second = status.backends
    assert (first.name, first.delivered, first.filtered, first.dead, first.left) == ("a", 50, 5, 1, 34)
    assert 8 < first.lag < 20
    assert (second.left, second.lag) == (0, 0.0)
    assert status.left == 34
    assert first.state == "stopped"


def test_a_backend_that_is_no_longer_configured_is_told_too(place: Spool) -> None:
    write_atomically(
        os.path.join(place.cursors, "old.json"), {"segment": 1, "offset": 0, "base": 0, "counts": {"delivered": 3}}
    )

    (old,) = read_status(place, "shop").backends

    assert (old.name, old.state, old.delivered) == ("old", "not configured", 3)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00" * 100, '{"ledger": {}}'])
def test_a_damaged_status_file_is_no_obstacle(place: Spool, text: str) -> None:
    Path(place.status).write_text(text)

    assert read_status(place, "shop").journaled == 0


def test_a_report_says_what_each_backend_still_has_to_get(place: Spool) -> None:
    backends = (BackendStatus("a", left=3), BackendStatus("b"))
    status = Status(
        app="shop", spool="", running=False, pid=None, started=None, updated=None, journaled=0, doubles=0,
        dropped={"queue_full": {"INFO": 2, "DEBUG": 1}}, missing=0, corrupt=0, levels={}, journal_bytes=0, segments=0,
        trouble="", backends=backends,
    )  # fmt: skip

    assert Report(False, 5, {}, status).left == {"a": 3, "b": 0}
    assert status.total_dropped == 3
