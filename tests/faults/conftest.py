"""What fault cases share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .ledger import Case
from .oracle import Oracle
from .scene import Scene


@pytest.fixture
def case(tmp_path: Path, spool: Path) -> Iterator[Case]:
    """One fault case: an oracle, a spool, side files, and whatever processes the test starts."""
    with Oracle() as oracle:
        one = Case(oracle, tmp_path, spool)
        yield one
        one.close()


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    with Oracle() as server:
        yield server


@pytest.fixture
def scene(spool: Path, oracle: Oracle) -> Iterator[Scene]:
    """An application in the test's own process."""
    with Scene(spool, oracle) as application:
        yield application
