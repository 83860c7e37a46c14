"""Everything that happens inside a shipper process, in any order, against lists of what must become of every event.

The rules are the mechanisms: events of one and of several frames, express lanes, levels and routes, overflows, batches,
outages and refusals of each kind, the quota of both kinds, damage, a full disk, a second and a third backend, kills and
restarts. After each step, for each backend, as sets: logged = delivered + dropped + dead + left, and no event of which
all frames are in the journal is incomplete.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ..support.disks import tmpfs
from ..support.model import ALL_AT_ONCE, ANSWERS, KEPT_FOR_EVER, Sent, World

applications = st.integers(0, 2)
levels = st.sampled_from([10, 20, 30, 40, 50])
sizes = st.sampled_from([0, 10, 500, 3000, 3900, 4200, 9000, 14_000])
backends = st.sampled_from(["one", "many", "joined"])
routes = st.sampled_from([None, None, None, None, ("one",), ("many", "joined"), ()])
ticks = st.one_of(st.just(0), st.just(0), st.integers(1, 60))
bytes_taken = st.one_of(st.just(ALL_AT_ONCE), st.integers(1, 12_000))


class Inside(RuleBasedStateMachine):
    """A shipper process without threads."""

    def __init__(self, folder: Path, *, can_fill: bool) -> None:
        super().__init__()
        self.folder = folder
        self.can_fill = can_fill
        self.is_begun = False

    @initialize(
        quota=st.sampled_from([20_000, 60_000]),
        when_full=st.sampled_from(["oldest", "newest"]),
        keep=st.sampled_from([0, 20_000, KEPT_FOR_EVER]),
    )
    def begin(self, quota: int, when_full: str, keep: int | str) -> None:
        self.world = World(self.folder, quota=quota, when_full=when_full, keep=keep)
        self.is_begun = True

    def log(self, application: int, level: int, size: int, frames: int, *, bad: bool = False) -> Sent:
        chosen = self.world.applications[application]
        sent = self.world.log(chosen, level, size, bad=bad, route=None)
        self.world.put(chosen, frames)
        return sent

    # -- applications ------------------------------------------------------------------------------------------------

    @rule(application=applications, level=levels, size=sizes, bad=st.booleans(), route=routes)
    def an_event(self, application: int, level: int, size: int, bad: bool, route: tuple[str, ...] | None) -> None:
        chosen = self.world.applications[application]
        self.world.log(chosen, level, size, bad=bad, route=route)
        self.world.put(chosen, ALL_AT_ONCE)

    @rule(application=applications, level=levels, size=sizes, count=st.integers(4, 12))
    def a_burst(self, application: int, level: int, size: int, count: int) -> None:
        for _ in range(count):
            self.log(application, level, size, ALL_AT_ONCE)
            self.world.take(ALL_AT_ONCE)

    @rule(application=applications, level=levels, size=sizes, frames=st.integers(0, 3), take=st.booleans())
    def the_first_frames_of_an_event(self, application: int, level: int, size: int, frames: int, take: bool) -> None:
        """The event's other frames wait in the overflow."""
        self.log(application, level, size, frames)
        if take:
            self.world.take(ALL_AT_ONCE)

    @rule(name=backends, application=applications, level=levels, frames=st.integers(1, 3))
    def a_backlog_that_ends_inside_an_event(self, name: str, application: int, level: int, frames: int) -> None:
        """An express lane may begin inside that event."""
        self.world.deliver(name, "accepts")
        for _ in range(5):
            self.log(application, 20, 3000, ALL_AT_ONCE)
            self.world.take(ALL_AT_ONCE)
        self.log(application, level, 14_000, frames)
        self.world.take(ALL_AT_ONCE)
        self.world.pass_time(0.6)
        self.world.deliver(name, "accepts")

    @rule(application=applications, frames=st.integers(1, 6))
    def more_of_an_overflow(self, application: int, frames: int) -> None:
        self.world.put(self.world.applications[application], frames)

    @rule(application=applications)
    def a_process_is_killed(self, application: int) -> None:
        self.world.end_application(self.world.applications[application])

    @rule(application=applications, level=levels, size=sizes, frames=st.integers(0, 3))
    def a_process_is_killed_in_a_call(self, application: int, level: int, size: int, frames: int) -> None:
        self.world.kill_in_call(self.world.applications[application], level, size, frames)

    # -- the shipper process -----------------------------------------------------------------------------------------

    @rule(most=bytes_taken)
    def a_splice(self, most: int) -> None:
        self.world.take(most)

    @rule()
    def overflows_are_taken_over(self) -> None:
        self.world.adopt()

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(name=backends, answer=st.sampled_from(ANSWERS), killed_after=ticks)
    def a_round(self, name: str, answer: str, killed_after: int) -> None:
        with self.world.may_be_killed(killed_after):
            self.world.deliver(name, answer)
        self.world.pass_time(0.6)

    @rule(name=backends, rounds=st.integers(1, 6))
    def good_rounds(self, name: str, rounds: int) -> None:
        for _ in range(rounds):
            self.world.deliver(name, "accepts")
            self.world.pass_time(0.3)

    @rule(
        name=backends,
        answer=st.sampled_from(ANSWERS),
        meanwhile=st.sampled_from(["take", "keep_quota", "delete_passed", "save_account", "adopt"]),
    )
    def something_happens_while_a_request_is_under_way(self, name: str, answer: str, meanwhile: str) -> None:
        self.a_slow_round(name, answer, meanwhile)

    def a_slow_round(self, name: str, answer: str, meanwhile: str) -> None:
        happens: dict[str, Callable[[], None]] = {
            "take": functools.partial(self.world.take, ALL_AT_ONCE),
            "keep_quota": self.world.keep_quota,
            "delete_passed": self.world.delete_passed,
            "save_account": self.world.save_account,
            "adopt": self.world.adopt,
        }
        self.world.deliver(name, answer, happens[meanwhile])

    @rule()
    def passed_segments_are_deleted(self) -> None:
        self.world.delete_passed()

    @rule(killed_after=ticks)
    def the_quota_is_kept(self, killed_after: int) -> None:
        with self.world.may_be_killed(killed_after):
            self.world.keep_quota()

    @rule()
    def the_process_is_killed(self) -> None:
        self.world.kill()

    @rule()
    def the_process_is_restarted(self) -> None:
        self.world.restart()

    @rule(
        application=applications,
        level=levels,
        size=st.sampled_from([0, 10, 500]),
        torn=st.sampled_from([None, None, None, None, 0]),
        meanwhile=st.sampled_from(["take", "take", "keep_quota", "delete_passed"]),
        answer=st.sampled_from([*["accepts"] * 20, *ANSWERS]),
        kill=st.booleans(),
    )
    def another_process_encodes(
        self, application: int, level: int, size: int, torn: int | None, meanwhile: str, answer: str, kill: bool
    ) -> None:
        """An encoder process gets a long backlog, perhaps with half an event in it, and may be killed then."""
        self.world.encode_elsewhere("many")
        for number in range(24):
            if number == 13 and torn is not None:
                self.log(torn, level, 14_000, 1)
            self.log(application, level, size, ALL_AT_ONCE)
        self.world.take(ALL_AT_ONCE)
        self.world.deliver("many", "accepts")
        self.a_slow_round("many", answer, meanwhile)
        if kill:
            self.world.kill_encoder("many")
        self.world.deliver("many", "accepts")

    # -- settings, disk ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.is_begun and "joined" not in self.world.known)
    @rule()
    def a_client_joins_a_backend(self) -> None:
        self.world.join()

    @rule(names=st.sets(backends, min_size=1))
    def other_backends_are_configured(self, names: set[str]) -> None:
        if names & self.world.known:
            self.world.configure(names)

    @precondition(lambda self: self.can_fill)
    @rule()
    def the_disk_is_full(self) -> None:
        self.world.fill_disk()

    @precondition(lambda self: self.can_fill)
    @rule()
    def the_disk_has_space(self) -> None:
        self.world.empty_disk()

    @rule(segment=st.integers(0, 9), place=st.integers(0, 9000))
    def a_byte_is_damaged(self, segment: int, place: int) -> None:
        self.world.damage(segment, place)

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_and_everything_is_counted_once(self) -> None:
        if self.is_begun:
            self.world.check()

    def teardown(self) -> None:
        if self.is_begun:
            try:
                self.world.finish()
            finally:
                self.world.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with tmpfs(folder, "512k"):
        yield folder


def _run(folder: Path, *, can_fill: bool, long: bool) -> None:
    class OnThisDisk(Inside):
        def __init__(self) -> None:
            super().__init__(folder, can_fill=can_fill)

    logging.getLogger("shipper.process").setLevel(logging.CRITICAL)
    run_state_machine_as_test(
        OnThisDisk,
        settings=settings(
            max_examples=3000 if long else 100,
            stateful_step_count=60,
            derandomize=not long,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # Without shrinking: a failure says what happened, and shrinking takes minutes.
            phases=[Phase.generate],
        ),
    )


@pytest.mark.timeout(900)
def test_nothing_is_lost_whatever_meets(tmp_path: Path) -> None:
    _run(tmp_path, can_fill=False, long=False)


@pytest.mark.timeout(900)
def test_nothing_is_lost_whatever_meets_on_a_disk_that_is_full_now_and_then(disk: Path) -> None:
    _run(disk, can_fill=True, long=False)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_many_long_lives(disk: Path) -> None:
    _run(disk, can_fill=True, long=True)


# -- what it has found -------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, quota=60_000, when_full=request.param)
    yield made
    made.close()


def _log(world: World, application: int, count: int, *, size: int, level: int = 20, frames: int = ALL_AT_ONCE) -> Sent:
    for _ in range(count):
        sent = world.log(world.applications[application], level, size, bad=False, route=None)
        world.put(world.applications[application], frames)
        world.take_everything()
    return sent


@pytest.mark.parametrize("world", ["oldest"], indirect=True)
def test_the_account_is_saved_before_what_it_has_counted_is_deleted(world: World) -> None:
    _log(world, 0, 6, size=14_000)
    world.keep_quota()
    world.kill()

    world.check()
    world.finish()


@pytest.mark.parametrize("world", ["newest"], indirect=True)
def test_an_event_is_waited_for_as_long_as_the_quota_keeps_its_rest_out(world: World) -> None:
    """Meanwhile, one backend is down for an hour."""
    _log(world, 1, 16, size=3000)
    begun = _log(world, 0, 1, size=14_000, frames=1)
    _log(world, 1, 3, size=3000)
    world.end_application(world.applications[0])
    for _ in range(360):
        world.deliver("one", "accepts")
        world.deliver("many", "is down")
        world.pass_time(10.0)
    assert world.full.is_set()
    assert not begun.is_whole

    world.finish()

    assert all(begun.id in world.backends[name].got for name in ("one", "many"))


@pytest.mark.parametrize("world", ["newest"], indirect=True)
def test_an_event_whose_rest_is_refused_does_not_keep_the_journal_at_its_quota(world: World) -> None:
    begun = _log(world, 0, 1, size=14_000, frames=1)
    _log(world, 1, 20, size=3000)
    for _ in range(40):
        for name in ("one", "many"):
            world.deliver(name, "accepts")
        world.take_everything()

    assert not world.full.is_set()
    for deliverer in world:
        assert deliverer.progress.counts["quota"] == 1
        assert begun.id not in world.backends[deliverer.name].got
    world.finish()
