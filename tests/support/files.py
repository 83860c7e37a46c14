"""What lies in a folder while a process works in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def contents(folder: Path) -> Iterator[bytes]:
    """Yield the content of each regular file below ``folder``, but for files that are removed or renamed meanwhile."""
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path.read_bytes()
