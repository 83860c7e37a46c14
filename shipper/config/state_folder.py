"""The default place of an app's spool: the user's state folder (XDG Base Directory specification)."""

from __future__ import annotations

import contextlib
import os
import re

from .._support.hashing import sha256_hex
from ..errors import ConfigurationError
from .mounts import is_network_file_system

_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9._-]")


def default_folder(app: str) -> str:
    """`usual_folder`, but on a network file system, which other hosts may share, `…/shipper@<host>/<app>`.

    A spool that an earlier version has left in the usual folder stays in use.
    """
    usual = usual_folder(app)
    above = os.path.dirname(usual)
    if os.path.exists(os.path.join(usual, "queue")) or not is_network_file_system(above):
        return usual
    return os.path.join(f"{above}@{host_name()}", app)


def usual_folder(app: str) -> str:
    """`$XDG_STATE_HOME/shipper/<app>`, or `~/.local/state/shipper/<app>`; if not writable, in the temp folder."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    if os.path.isabs(home) and _can_be_made(home):
        return os.path.join(home, "shipper", app)
    import tempfile  # only for users without a writable home

    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError as error:
        allowed = "a folder that can be written to, such as one on a volume: neither the home nor a temp folder can"
        raise ConfigurationError("spool", None, allowed) from error
    return os.path.join(temporary, f"shipper-{os.geteuid()}", app)


def host_name() -> str:
    """A name for this host, the same after a reboot: its node name, and a digest of that and the machine id."""
    machine = ""
    with contextlib.suppress(OSError), open("/etc/machine-id", encoding="utf-8") as file:
        machine = file.read().strip()
    node = os.uname().nodename
    return f"{_NOT_ALLOWED.sub('-', node)[:60]}-{sha256_hex(f'{node} {machine}'.encode())[:8]}"


def _can_be_made(path: str) -> bool:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK | os.X_OK)
