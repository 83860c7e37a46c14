"""`shipper check` shows the memory files of processes that are gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from shipper.cli.check.machine import check_machine
from shipper.spool.layout import memory_folder
from shipper.transport.memory.overflow import Overflow

from ..support.forks import in_a_child


def test_memory_files_of_processes_that_are_gone_are_shown() -> None:
    folder = Path(memory_folder()) / os.urandom(8).hex()

    def work() -> None:
        Overflow(str(folder), token=b"tokentok", pid=os.getpid(), limit=10**6).count("failed", 10)

    assert in_a_child(work) == 0
    try:
        (found,) = (result for result in check_machine() if result.name == "memory files")
    finally:
        shutil.rmtree(folder)
    assert "of processes that are gone" in found.text
