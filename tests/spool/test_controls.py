"""The file `controls.json`: what commands have requested of an app."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import pytest

from shipper.spool.controls import Controls, ControlsReader, change_controls, read_controls, restore_controls
from shipper.spool.layout import Spool

from ..support.disks import tmpfs
from ..support.waiting import PATIENCE


def pause(spool: Spool, name: str) -> None:
    change_controls(spool, lambda each: dataclasses.replace(each, paused={**each.paused, name: 1000.0}))


@pytest.fixture
def made(spool: Path) -> Spool:
    found = Spool(str(spool))
    found.prepare()
    return found


def test_a_reader_learns_of_each_change_once(made: Spool) -> None:
    reader = ControlsReader(made)
    assert not reader.look()

    pause(made, "trakerr")

    assert reader.look()
    assert not reader.look()
    assert reader.controls.paused == {"trakerr": 1000.0}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"crc": 1, "paused": {}}'])
def test_who_has_read_the_file_goes_on_with_that_while_it_is_damaged_or_missing(made: Spool, damage: str) -> None:
    reader = ControlsReader(made)
    pause(made, "trakerr")
    reader.look()

    Path(made.controls).write_text(damage)
    reader.look()
    assert reader.controls.paused == {"trakerr": 1000.0}
    Path(made.controls).unlink()
    reader.look()
    assert reader.controls.paused == {"trakerr": 1000.0}

    restore_controls(made, reader.controls)
    assert read_controls(made).paused == {"trakerr": 1000.0}


def test_what_is_no_pause_and_no_level_is_ignored(made: Spool) -> None:
    content = {
        "paused": {"trakerr": "now", "jkool": 5.0},
        "retry": [],
        "levels": {"a": [10, 99.0], "b": [10], "c": ["DEBUG", 99.0], "d": [-1, 99.0], "e": [True, 99.0], "f": None},
    }
    Path(made.controls).write_text(json.dumps(content))
    Path(made.controls).chmod(0o600)

    assert read_controls(made) == Controls({"jkool": 5.0}, {}, {"a": (10, 99.0)})


def test_a_link_is_not_followed(made: Spool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text(json.dumps({"paused": {"trakerr": 5.0}}))
    os.symlink(target, made.controls)

    assert read_controls(made) == Controls()


def test_a_level_is_in_force_until_its_time_and_never_for_longer_than_allowed() -> None:
    controls = Controls(levels={"a": (10, 2000.0), "b": (10, 900.0), "c": (10, 1e12)})

    assert controls.levels_at(1000.0) == {"a": 10}


def test_changes_at_the_same_time_are_all_kept(made: Spool) -> None:
    names = [f"backend-{number}" for number in range(8)]
    threads = [threading.Thread(target=pause, args=(made, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert sorted(read_controls(made).paused) == names


def test_a_full_disk_takes_a_change_of_the_file_that_the_process_has_made(spool: Path) -> None:
    with tmpfs(spool, "64k"):
        made = Spool(str(spool))
        made.prepare()
        restore_controls(made, Controls())
        with contextlib.suppress(OSError), open(spool / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)

        pause(made, "trakerr")

        assert read_controls(made).paused == {"trakerr": 1000.0}


def test_the_lane_of_another_host_has_controls_of_its_own(made: Spool) -> None:
    lane = Spool(os.path.join(made.hosts, "other"))
    lane.prepare()

    pause(lane, "trakerr")

    assert read_controls(made) == Controls()


def test_levels_whose_time_is_over_leave_the_file_with_the_next_change(made: Spool) -> None:
    now = time.time()
    change_controls(made, lambda each: dataclasses.replace(each, levels={"a": (10, now - 1), "b": (10, now + 60)}))

    assert list(read_controls(made).levels) == ["b"]
