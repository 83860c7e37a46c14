"""The files that the journal consists of: which there are, and how large."""

from __future__ import annotations

import contextlib
import os

_SUFFIX = ".seg"


def segments(folder: str) -> list[int]:
    """The numbers of the segments that are there, oldest first; foreign files are none."""
    return sorted(
        int(name[: -len(_SUFFIX)])
        for name in os.listdir(folder)
        if name.endswith(_SUFFIX) and name[: -len(_SUFFIX)].isascii() and name[: -len(_SUFFIX)].isdigit()
    )


def segment_path(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number:012d}{_SUFFIX}")


def size_on_disk(folder: str) -> int:
    total = 0
    for number in segments(folder):
        with contextlib.suppress(OSError):
            total += os.stat(segment_path(folder, number)).st_size
    return total
