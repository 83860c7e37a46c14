"""At the end of the interpreter: wait until events are journaled or, in a container, delivered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..capture.pipeline import early_events
from ..stderr import warn_on_stderr
from .container import ends_with_this_process

if TYPE_CHECKING:
    from ..runtime import App


class ExitFlush:
    """Called when the interpreter ends; twice where multiprocessing is loaded, whose finalizers call it too."""

    def __init__(self) -> None:
        self._gave_up = False

    def __call__(self, app: App | None) -> None:
        """Wait for at most `exit_timeout`. Nothing is closed: more may be logged afterwards."""
        if app is None or not app.pipeline.names:
            early_events.warn_unshipped()
        if app is None or self._gave_up:
            return
        app.is_ending = True
        app.check_attachment()
        deadline = time.monotonic() + app.settings.exit_timeout
        # What is in the journal is delivered by the shipper process, or after the next start.
        is_journaled = app.flush(deadline, delivered=False) or app.supervisor.drain_pipe()
        if not is_journaled and app.spool.is_usable:
            warn_on_stderr("at exit some events were not in the journal yet; they are in memory, or counted as dropped")
        if app.spool.is_usable and _waits_for_delivery(app) and not (is_journaled and app.flush(deadline)):
            _warn_undelivered(app)
            is_journaled = False
        self._gave_up = not is_journaled
        app.supervisor.reap()


def _waits_for_delivery(app: App) -> bool:
    """Whether to wait for delivery: `exit_wait`, else whether the container may end with this process.

    Without `exit_wait` a forked child does not wait: its parent, whose app it has inherited, waits for both.
    """
    wanted = app.settings.exit_wait
    return not app.is_inherited and ends_with_this_process() if wanted is None else wanted


def _warn_undelivered(app: App) -> None:
    try:
        left = ", ".join(f"{each.left} for {each.name}" for each in app.status().backends if each.left)
    except Exception:  # the package was removed from the disk: its modules can't be imported
        left = ""
    warn_on_stderr(
        f"after {app.settings.exit_timeout:g} s (exit_timeout) events are not delivered",
        f"{left or 'their number is not known'}; they are in {app.spool.path}, and the next start with that spool "
        "delivers them. In a container, keep the spool on a volume, or raise exit_timeout",
    )
