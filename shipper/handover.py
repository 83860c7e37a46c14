"""What the running process tells of its settings: whoever replaces it keeps what clients elsewhere have joined.

They are in memory, in a file without a name that the process holds open: keys and tokens are on no disk.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Mapping
from typing import Any

from .lock import number
from .settings import Settings


def tell(settings: Settings) -> int:
    """Keep the settings for those who ask; the descriptor to look at, 0 where there are no files without a name."""
    if not hasattr(os, "memfd_create"):
        return 0
    file = os.memfd_create("settings")
    os.write(file, settings.for_process())
    return file


def told(holder: Mapping[str, Any]) -> Settings | None:
    """The settings of the process that holds the lock; None when it has not told them, or not us."""
    pid, file = int(number(holder, "pid")), int(number(holder, "settings"))
    if pid <= 0 or file <= 0:
        return None
    with contextlib.suppress(Exception):  # it ends; or a backend's module can't be imported here
        with open(f"/proc/{pid}/fd/{file}", "rb") as opened:
            found = pickle.load(opened)
        return found if isinstance(found, Settings) else None
    return None
