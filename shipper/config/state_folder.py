"""The default place of an app's spool: the user's state folder (XDG Base Directory specification)."""

from __future__ import annotations

import os


def default_folder(app: str) -> str:
    """`$XDG_STATE_HOME/shipper/<app>`, or `~/.local/state/shipper/<app>`; without a home, in the temp folder."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    if os.path.isabs(home) and _can_be_made(home):
        return os.path.join(home, "shipper", app)
    import tempfile  # only for users without a home

    return os.path.join(tempfile.gettempdir(), f"shipper-{os.geteuid()}", app)


def _can_be_made(path: str) -> bool:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK | os.X_OK)
