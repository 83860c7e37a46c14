"""Replay through the app's own shipper process, which has the backend's settings."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...delivery.handover import OVERFLOW_BYTES
from ...delivery.replay.replay import Replay, ReplayError, Stretch
from ...journal.cursors.cursor_files import load_cursor
from ...journal.history import History, first_since
from ...journal.segments import Position, size_on_disk
from ...spool.files import get_dict, read_json
from ...spool.layout import Spool
from ...spool.lock import running
from .. import BAD_NEWS, complain
from .outcome import say, say_interrupted

if TYPE_CHECKING:
    from ..status.find import Found

LATER = 3
LOOK_SECONDS = 0.1  # between two looks for room


class NoRoomError(Exception):
    """The journal has no room, and no shipper process runs that would make some."""


def replay_here(given: argparse.Namespace, app: Found) -> int:
    """Hand the events over to the shipper process, or to the next one if none runs; return the exit code."""
    spool, name = app.spool, given.backend
    status = app.read()
    known = {backend.name: backend for backend in status.backends}
    if name not in known:
        there = f"; there are: {', '.join(sorted(known))}" if known else ""
        return complain(f"there is no backend {name}{there}", code=BAD_NEWS)
    if known[name].state == "not configured":
        what = f"{name} is not configured: start the application with it first, or its events would be filtered"
        return complain(what, code=BAD_NEWS)
    quota = status.quota or 1 << 29
    replay = Replay(
        Stretch(name, given.since, given.until, known[name].level, _end(spool, name), _takes_all(spool, name)),
        os.path.join(spool.path, "replays", name),
        spool.overflow_on_disk,
        again=given.again,
    )
    history = open_history(spool, given.since)
    try:
        replay.run(
            history, portion=min(OVERFLOW_BYTES, quota // 8), wait_for_room=room_in(spool, quota), dry=given.dry_run
        )
    except NoRoomError:
        say(replay.counts, name, _when(spool, known[name].state), dry=False)
        what = "the journal has no room for more until they are delivered: start the application, then repeat this"
        return complain(what, code=LATER)
    except KeyboardInterrupt:
        return say_interrupted(replay.counts, name)
    finally:
        history.close()
    return say(replay.counts, name, _when(spool, known[name].state), dry=given.dry_run)


def open_history(spool: Spool, since: float) -> History:
    """The spool's journal and its kept segments, without segments from before ``since`` (seconds since the epoch)."""
    return History(spool.journal, spool.kept, first_since(spool.journal, spool.kept, since))


def _when(spool: Spool, state: str) -> str:
    if state == "paused":
        return "delivered when it is resumed"
    return "delivered now" if running(spool) is not None else "delivered when the application is started again"


def _end(spool: Spool, name: str) -> Position:
    """The place up to which everything is settled for a backend. ReplayError when that is not known."""
    saved = load_cursor(os.path.join(spool.cursors, f"{name}.json"))
    if saved is None:
        raise ReplayError(f"how far {name} has come is not known: start the application first")
    return saved.position


def _takes_all(spool: Spool, name: str) -> bool:
    backends = get_dict(read_json(spool.status) or {}, "backends")
    return get_dict(backends, name).get("takes_all") is not False


def room_in(spool: Spool, quota: int) -> Callable[[int], None]:
    """A function that waits until so many bytes fit into three quarters of the journal's quota.

    The function raises NoRoomError when they do not and no shipper process runs.
    """
    has_told = False

    def wait(size: int) -> None:
        nonlocal has_told
        while size_on_disk(spool.journal) + _waiting(spool.overflow_on_disk) + size > quota * 3 // 4:
            if running(spool) is None:
                raise NoRoomError
            if not has_told:
                complain("waiting until the journal has room: events in it are to be delivered first", code=0)
            has_told = True
            threading.Event().wait(LOOK_SECONDS)

    return wait


def _waiting(folder: str) -> int:
    """Bytes that were handed over and are not in the journal yet."""
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:  # a file, or the folder, was removed meanwhile
        return 0
