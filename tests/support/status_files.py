"""Spools that consist of nothing but what `shipper status` reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATUS: dict[str, Any] = {
    "app": "checkout",
    "pid": 4711,
    "started": 1000.0,
    "updated": 2000.0,
    "ended": True,
    "ledger": {"journaled": 1500, "levels": {"INFO": 1500}},
    "backends": {
        "jkool": {"state": "idle", "counts": {"delivered": 1500}},
        "trakerr": {"state": "idle", "counts": {"delivered": 300, "filtered": 1200}, "retried": 4},
    },
}
"""The status file of an app without any trouble, whose process has ended."""


def make_spool(folder: Path, status: dict[str, Any] | None = None) -> Path:
    """The files of a spool that `shipper status` reads."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.mkfifo(folder / "queue", 0o600)
    if status is not None:
        (folder / "status.json").write_text(json.dumps(status))
    return folder
