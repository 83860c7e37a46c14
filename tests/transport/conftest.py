"""What tests of the transport share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.transport.queue import RecordQueue


@pytest.fixture
def queue(spool: Path) -> Iterator[RecordQueue]:
    os.mkfifo(spool / "queue", 0o600)
    made = RecordQueue(str(spool / "queue"), overflow=str(spool / "memory"))
    yield made
    made.close()
