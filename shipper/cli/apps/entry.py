"""What `shipper apps` shows about one app."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ...event.redact import Redact, Redactor
from ...report import BackendStatus, read_status
from ...spool.host import Host
from ...spool.kernel import boot_id
from ...spool.layout import Spool
from ...transport.memory.shared_file import list_files, living_pids
from ..status.find import Found, as_user
from .reason import reason_text


def describe(found: Found) -> dict[str, Any]:
    """An app as `shipper apps --json` prints it, read with the rights of the spool's owner."""
    return {"user": found.user, **as_user(found.uid, lambda: _describe(found))}


def _describe(found: Found) -> dict[str, Any]:
    spool = found.spool
    status = read_status(spool, found.app)
    return {
        "app": status.app,
        "spool": spool.path,
        "name_from": dict(status.name_from),
        "why": reason_text(status.name_from),
        **_host(spool),
        "running": status.running,
        "pid": status.pid,
        "processes": sorted(_processes(spool)),
        "destinations": [_destination(each) for each in status.backends],
        "active": _last_activity(spool, status.updated),
        "waiting": status.left,
        "in_memory": status.in_memory,
        "dead_letters": sum(each.dead_letters for each in status.backends),
    }


def _host(spool: Spool) -> dict[str, Any]:
    """The host that uses the spool: its name ("" if it has no folder of its own), and its boot ("" if unknown).

    ``is_this_boot``: whether that is the current boot of this machine; None if unknown.
    """
    used_by = Host.read(spool)
    folder, name = os.path.split(spool.path)
    shared = os.path.basename(folder)
    host = name if shared == "hosts" else shared.partition("@")[2] if shared.startswith("shipper@") else ""
    boot = used_by.boot if used_by is not None else ""
    return {"host": host, "boot": boot, "is_this_boot": boot == boot_id() if boot else None}


def _processes(spool: Spool) -> set[int]:
    """The pids of the application's processes, each as numbered in the container that it runs in."""
    return {pid for folder in (spool.overflow, spool.overflow_on_disk) for pid in living_pids(folder)}


def _destination(backend: BackendStatus) -> dict[str, Any]:
    mask = Redactor(Redact()).mask_text  # a path may hold the secret of a webhook
    return {"name": backend.name, "url": mask(backend.url), "state": backend.state, "left": backend.left}


def _last_activity(spool: Spool, updated: float | None) -> float | None:
    """When a file of the journal last changed; without files, when the status was written."""
    return max(_times(spool), default=updated)


def _times(spool: Spool) -> Iterator[float]:
    for path in list_files(spool.journal):
        with contextlib.suppress(OSError):
            yield os.stat(path).st_mtime
