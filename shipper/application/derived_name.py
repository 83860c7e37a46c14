"""Apps that are named after their program and its destinations: one program keeps its name, and its spool."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat

from .._support.hashing import sha256_hex
from ..config.settings import Settings, destinations
from ..config.state_folder import default_folder
from ..errors import ConfigurationError
from ..spool.layout import Spool
from ..spool.lock import running


def with_name_of(request: object, settings: Settings) -> Settings:
    """The settings with the name of the running app, if both were named after this program and its destinations.

    ``request`` is what the running app was started with, None when there is none.

    The names may differ: a worker of gunicorn has loaded its application since gunicorn.conf.py called `start()`.
    """
    asked = request[0] if isinstance(request, tuple) else None
    if not isinstance(asked, Settings) or not (_is_all_derived(asked) and _is_all_derived(settings)):
        return settings
    if destinations(asked.backends) != destinations(settings.backends):
        return settings
    return dataclasses.replace(settings, app=asked.app, spool=asked.spool, name_from=asked.name_from)


def _is_all_derived(settings: Settings) -> bool:
    """Whether neither the app's name nor its folder was given."""
    if settings.is_named:
        return False
    try:
        return settings.spool == default_folder(settings.app)
    except ConfigurationError:  # there is no default folder here: one was given
        return False


def adopt_earlier(settings: Settings) -> None:
    """Rename the spool that an earlier version has left for this program, under a name without destinations."""
    if not _is_all_derived(settings):
        return
    earlier = Spool(default_folder(settings.app.rpartition("-")[0]))
    with contextlib.suppress(OSError):
        if not stat.S_ISFIFO(os.lstat(earlier.queue).st_mode) or os.path.lexists(os.path.join(earlier.path, "hosts")):
            return
        if os.path.lexists(settings.spool) or running(earlier) is not None:
            return
        # Without an id, the spool's folder in memory is named after the path: as the id, that name stays valid.
        earlier.write_id(earlier.read_id() or sha256_hex(os.path.realpath(earlier.path).encode())[:16])
        os.rename(earlier.path, settings.spool)
        os.unlink(Spool(settings.spool).app)
