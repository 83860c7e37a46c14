"""The files of the cursors, as everybody else sees them: where each backend is in the journal, and where it begins."""

from __future__ import annotations

import os
from typing import Any

from ..spool.files import open_file, read_json, seal
from .segments import segment_path, segments


def begin_cursor(path: str, folder: str) -> None:
    """Let a backend that has no cursor yet begin with what comes from now on. OSError when it can't be written.

    Done by the application at `start()`, before it logs anything, and not by the process, which comes later.
    """
    numbers = segments(folder)
    last = numbers[-1] if numbers else 1
    offset = os.stat(segment_path(folder, last)).st_size if numbers else 0
    try:
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    # Not by replacing: another worker may have been here first. Read half-written, it begins with the first segment.
    text = seal({"segment": last, "offset": offset, "base": -1, "counts": {}, "dropped": {}})
    try:
        os.write(fd, text)
        # Once in a backend's life: or after a power cut it would begin anew, behind what is left for it.
        os.fsync(fd)
        _sync_folder(os.path.dirname(path))
    finally:
        os.close(fd)


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def saved_positions(folder: str) -> dict[str, dict[str, Any]]:
    """What the cursor files in a folder say: backend's name → its file's content."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            data = read_json(os.path.join(folder, name))
            if data is not None:
                found[name[: -len(".json")]] = data
    return found
