"""`shipper.report`: the status of an app, read from the files in its spool."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.cli.status.as_json import as_object
from shipper.cli.status.openmetrics import openmetrics
from shipper.cli.status.view import text
from shipper.report import BackendStatus, Report, Status, read_status
from shipper.spool.files import write_atomically
from shipper.spool.layout import Spool


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

    (old,) = (each for each in read_status(place, "shop", SAID).backends if each.name == "old")

    assert (old.state, old.delivered) == ("not configured", 3)


def test_no_backend_is_said_to_be_unconfigured_by_a_process_that_has_said_nothing(place: Spool) -> None:
    write_atomically(os.path.join(place.cursors, "old.json"), {"segment": 1, "offset": 0, "base": 0, "counts": {}})

    (old,) = read_status(place, "shop").backends

    assert old.state == "stopped"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00" * 100, '{"ledger": {}}'])
def test_a_damaged_status_file_is_no_obstacle(place: Spool, text: str) -> None:
    Path(place.status).write_text(text)

    assert read_status(place, "shop").journaled == 0


SAID: dict[str, Any] = {
    "app": "shop", "started": 1.5, "updated": 2.5, "dropped": {"queue_full": {"INFO": 1}},
    "dropped_at": {"queue_full": 2.0}, "ended": False, "marks": {"aa": [1, 1, 0]},
    "ledger": {"journaled": 9, "doubles": 1, "missing": 1, "corrupt": 1, "levels": {"INFO": 9}, "seen": {"aa": 9}},
    "journal": {"trouble": "no room", "quota": 100},
    "backends": {
        "a": {
            "state": "idle", "position": [1, 0], "base": 0, "counts": {"delivered": 3}, "retried": 1,
            "dropped": {"quota": {"INFO": 1}}, "in_flight": 1, "oldest": 1.0, "last_error": "HTTP 503",
            "last_error_at": 2.0, "since": 1.0, "next_try": 3.0, "url": "http://x", "level": 30,
            "dropped_at": {"quota": 2.0}, "requests": [1, 2], "request_seconds": 0.5,
        }
    },
}  # fmt: skip


def places(said: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(said, dict):
        for name, value in said.items():
            yield from places(value, (*path, name))


@pytest.mark.parametrize("path", [*places(SAID)], ids=".".join)
def test_a_status_of_any_shape_can_be_read_and_shown(place: Spool, path: tuple[str, ...]) -> None:
    """Such as one that another release wrote, or any other JSON."""
    for odd in (None, True, -1, 1e400, "x", [], [1], {}, {"a": None}, {"a": {"b": "c"}}):
        said = within = copy.deepcopy(SAID)
        for name in path[:-1]:
            within = within[name]
        within[path[-1]] = odd

        status = read_status(place, "shop", said)

        assert text([status]).startswith(f"{status.app}: ")
        assert openmetrics([("root", status)]).endswith("# EOF\n")
        assert json.loads(json.dumps(as_object(status)))["spool"] == place.path


def test_a_cursor_of_any_shape_can_be_read_and_shown(place: Spool) -> None:
    write_atomically(os.path.join(place.cursors, "old.json"), {"segment": "x", "base": None, "counts": 7})

    (old,) = read_status(place, "shop").backends

    assert (old.name, old.state, old.delivered, old.left) == ("old", "stopped", 0, 0)


def test_dead_letters_that_are_kept_are_counted(place: Spool) -> None:
    Path(place.dead, "a.ndjson.1").write_text("{}\n{}\n")
    Path(place.dead, "a.ndjson").write_text("{}\n")

    (backend,) = read_status(place, "shop", SAID).backends

    assert (backend.dead, backend.dead_letters) == (0, 3)


@pytest.mark.parametrize("state", ["unauthorised", "refused"])
def test_a_stopped_process_does_not_hide_what_only_a_person_can_end(place: Spool, state: str) -> None:
    (backend,) = read_status(place, "shop", {"backends": {"a": {"state": state}}}).backends

    assert backend.state == state


def test_a_report_says_what_each_backend_still_has_to_get(place: Spool) -> None:
    backends = (BackendStatus("a", left=3), BackendStatus("b"))
    status = Status(
        app="shop", spool="", running=False, pid=None, started=None, updated=None, journaled=0, doubles=0,
        dropped={"queue_full": {"INFO": 2, "DEBUG": 1}}, missing=0, corrupt=0, levels={}, journal_bytes=0, segments=0,
        trouble="", backends=backends,
    )  # fmt: skip

    assert Report(False, 5, {}, status).left == {"a": 3, "b": 0}
    assert status.total_dropped == 3
