"""fork, spawn, forkserver, pools, forks that run no hooks: every process ships its own records."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from ..support.needs import need
from .ledger import Case


def test_a_child_ships_though_other_threads_held_every_lock_at_the_fork(case: Case) -> None:
    stderr = case.run("fork_with_locks", turns=20)

    assert not stderr
    case.wait_for_end()
    assert sum(name.startswith("child") for name in case.emitted.returned) == 100
    assert sum(name.startswith("locked") for name in case.emitted.returned) == 5
    case.check(doubles=0)


@pytest.mark.parametrize(
    ("turns", "count"), [(4, 50), pytest.param(20, 1000, marks=[pytest.mark.long, pytest.mark.timeout(400)])]
)
def test_workers_of_a_preloading_server_ship_and_double_nothing(case: Case, turns: int, count: int) -> None:
    stderr = case.run("prefork", turns=turns, count=count, timeout=200)

    assert not stderr
    case.wait_for_end(200)
    assert len(case.emitted.returned) == 4 * turns * count + 18
    case.check(doubles=0)


def test_a_child_ships_that_was_forked_without_any_hooks(case: Case) -> None:
    case.run("fork_without_hooks")

    case.wait_for_end()
    assert len(case.emitted.returned) == 30
    case.check(doubles=0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_ship_whatever_started_them(case: Case, method: str) -> None:
    """Processes, executors, and the daemonic workers of a pool; one shipper process for all."""
    stderr = case.run("methods", method=method, timeout=60)

    assert not stderr
    case.wait_for_end()
    assert len(case.emitted.returned) == 10 + 2 * 50 + 8 * 20
    case.check(doubles=0)


def test_workers_of_a_billiard_pool_ship_even_when_they_are_killed_for_taking_too_long(case: Case) -> None:
    need(find_spec("billiard"), "billiard is not installed")

    case.run("billiard_pool", timeout=60)

    case.wait_for_end()
    assert len(case.emitted.returned) == 8 * 20
    case.check(doubles=0)
