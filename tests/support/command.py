"""The command `shipper` in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import IO

from .waiting import PATIENCE


@contextlib.contextmanager
def running(
    *arguments: str, stdout: int = subprocess.PIPE, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run the command, which has to end by itself within `PATIENCE` seconds of the block, with an empty stderr."""
    command = [sys.executable, "-W", "error", "-m", "shipper.cli", *arguments]
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield process
            process.wait(PATIENCE)
        finally:
            process.kill()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def lines_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout
