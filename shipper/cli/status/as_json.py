"""The status for programs: the schema is described in `shipper/cli/README.md`."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from ...report import Status
from .diagnosis import diagnose, severity


def as_object(status: Status, *, user: str = "", now: float | None = None) -> dict[str, Any]:
    """Every field of Status and of each BackendStatus under its name, with totals, health and findings."""
    now = time.time() if now is None else now
    findings = diagnose(status, now)
    return {
        **dataclasses.asdict(status),
        "left": status.left,
        "total_dropped": status.total_dropped,
        "user": user,
        "health": severity(findings),
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
