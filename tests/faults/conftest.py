"""One fault case: an oracle, a spool, side files, and whatever the test starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .ledger import Case
from .oracle import Oracle


@pytest.fixture
def case(tmp_path: Path, spool: Path) -> Iterator[Case]:
    with Oracle() as oracle:
        one = Case(oracle, tmp_path, spool)
        yield one
        one.close()
