"""Which segments stay when they are delivered, and which go first when the disk is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.segments import segments, size_on_disk

from ..support.disks import tmpfs
from ..support.model import ALL_AT_ONCE, KEPT_FOR_EVER, SEGMENT, World

QUOTA = 40_000


@contextlib.contextmanager
def opened(folder: Path, keep: int | str) -> Iterator[World]:
    world = World(folder, quota=QUOTA, when_full="oldest", keep=keep)
    try:
        yield world
    finally:
        world.close()


def log(world: World, count: int, *, deliver: bool) -> None:
    for _ in range(count):
        world.log(world.applications[0], 30, 3000, bad=False, route=None)
        world.put(world.applications[0], ALL_AT_ONCE)
        world.take(ALL_AT_ONCE)
        if deliver:
            deliver_all(world)


def deliver_all(world: World) -> None:
    for _ in range(60):
        for name in sorted(world.configured):
            world.deliver(name, "accepts")
    world.save_account()
    world.delete_passed()


def test_kept_segments_cost_no_event_its_place_in_the_journal(tmp_path: Path) -> None:
    """As many events wait for a backend that is down as without kept segments."""
    left = []
    for keep in (0, KEPT_FOR_EVER):
        with opened(tmp_path, keep) as world:
            log(world, 30, deliver=True)
            log(world, 40, deliver=False)
            world.keep_quota()
            left.append((size_on_disk(world.spool.journal), len(world._left(world.backends["one"])[0])))
            assert bool(Path(world.spool.kept).exists()) is bool(keep)
            world.check()

    assert left[0] == left[1]
    assert left[0][1] > 5


def test_what_is_given_up_for_the_quota_is_kept_too(tmp_path: Path) -> None:
    with opened(tmp_path, KEPT_FOR_EVER) as world:
        log(world, 60, deliver=False)
        world.keep_quota()

        assert size_on_disk(world.spool.journal) <= QUOTA
        world.finish()


def test_kept_segments_are_there_after_a_kill_and_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, 3 * SEGMENT) as world:
        log(world, 30, deliver=True)
        before = segments(world.spool.kept)
        world.kill()
        world.restart()
        world.delete_passed()

        assert segments(world.spool.kept) == before
        assert 2 * SEGMENT < size_on_disk(world.spool.kept) <= 3 * SEGMENT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with tmpfs(folder, "400k"):
        yield folder


def test_on_a_full_disk_kept_segments_go_before_anything_else(small_disk: Path) -> None:
    with opened(small_disk, KEPT_FOR_EVER) as world:
        log(world, 40, deliver=True)
        assert len(segments(world.spool.kept)) > 3
        world.fill_disk()
        log(world, 5, deliver=False)
        assert world.trouble

        world.delete_passed()

        assert segments(world.spool.kept) == []
        holes = [path.name for path in Path(world.spool.journal).iterdir() if path.read_bytes().startswith(b"\0")]
        assert holes == [], "although kept segments made space"
        world.take(ALL_AT_ONCE)
        assert not world.trouble
        world.finish()
