"""What lies in a folder while a process works in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def contents(folder: Path) -> Iterator[bytes]:
    """Of each regular file below; one that was replaced, or took the place of another, while we looked is left out."""
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path.read_bytes()
