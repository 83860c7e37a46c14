"""Replay to another address: a shipper process of its own delivers there, with a spool of its own.

The spool is `replays/<backend>-<digest of the URL>/` in the app's. What the command has handed over stays there when
it is interrupted, and the next command for the same address delivers it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from ..._support.hashing import sha256_hex
from ...config.environment import resolve
from ...config.limits import Spooling
from ...config.settings import Settings
from ...delivery.replay.replay import Replay, Stretch
from ...errors import ConfigurationError
from ...report import read_status
from ...spool.layout import Spool
from .. import BAD_NEWS, OK, complain, terminal
from ..starting import begin
from .outcome import say, say_interrupted
from .own import LATER, LOOK_SECONDS, open_history, room_in

if TYPE_CHECKING:
    from ..status.find import Found

STALLED_SECONDS = 30.0  # without progress, after which the command ends
_URL_FIELDS = ("url", "endpoint")


def replay_elsewhere(given: argparse.Namespace, app: Found) -> int:
    """Deliver the events to ``--to``; the exit code. ConfigurationError when the environment lacks the backend."""
    settings = _settings(given, app)
    (backend,) = settings.backends
    target = Spool(settings.spool)
    replay = Replay(
        Stretch(backend.name, given.since, given.until, backend.level),
        os.path.join(app.spool.path, "replays", os.path.basename(target.path)),
        target.overflow_on_disk,
        again=given.again,
    )
    history = open_history(app.spool, given.since)
    try:
        if given.dry_run:
            return say(replay.run(history, dry=True), backend.name, "", dry=True)
        begin(settings)
        replay.run(history, wait_for_room=room_in(target, settings.spooling.quota))
        return _wait(replay, target, given)
    except KeyboardInterrupt:
        return say_interrupted(replay.counts, given.to)
    finally:
        history.close()
        _stop()


def _settings(given: argparse.Namespace, app: Found) -> Settings:
    """The settings of an app that delivers to this one backend, at the other address."""
    found = resolve((), {"app": app.app, "spool": app.spool.path})
    backend = next((each for each in found.backends if each.name == given.backend), None)
    if backend is None:
        names = ", ".join(each.name for each in found.backends)
        raise ConfigurationError("--backend", given.backend, f"the environment has settings for {names} only")
    place = os.path.join(app.spool.path, "replays", f"{backend.name}-{sha256_hex(given.to.encode())[:8]}")
    return dataclasses.replace(
        found,
        backends=(_at(backend, given.to),),
        spool=place,
        spooling=dataclasses.replace(found.spooling, keep=Spooling.keep),
    )


def _at(backend: Any, url: str) -> Any:
    """The backend at another address. ConfigurationError when it has none."""
    names = {each.name for each in dataclasses.fields(backend)} if dataclasses.is_dataclass(backend) else set()
    field = next((name for name in _URL_FIELDS if name in names), None)
    if field is None:
        raise ConfigurationError("--to", url, f"{backend.name} has no URL")
    return dataclasses.replace(backend, **{field: url})


def _wait(replay: Replay, target: Spool, given: argparse.Namespace) -> int:
    """Wait until all is delivered, or `STALLED_SECONDS` without progress; print the outcome, return the exit code."""
    code = say(replay.counts, given.backend, f"handed over for {given.to}", dry=False)
    delivery = _Delivery(target)
    moved_at, settled = time.monotonic(), -1
    while not delivery.is_done():
        if settled != (settled := delivery.settled):
            moved_at = time.monotonic()
        if time.monotonic() - moved_at > STALLED_SECONDS:
            why = f" ({delivery.last_error})" if delivery.last_error else ""
            return complain(f"not everything is delivered{why}; repeat the command to go on", code=LATER)
        threading.Event().wait(LOOK_SECONDS)
    if delivery.dead:
        return complain(f"{terminal.were(delivery.dead, 'event')} refused by {given.to}", code=BAD_NEWS)
    if code == OK:
        print("Everything that was handed over is delivered.")
    return code


class _Delivery:
    """What became of the events that were handed over in a spool, as its status says."""

    def __init__(self, target: Spool) -> None:
        self._target = target
        self._taken_at: float | None = None  # when everything was found to be in the journal
        self.settled = 0
        self.dead = 0
        self.last_error = ""

    def is_done(self) -> bool:
        """Whether nothing is left, by a status that was written after everything had come into the journal."""
        if self._taken_at is None and not _names(self._target.overflow_on_disk):
            self._taken_at = time.time()
        status = read_status(self._target, "")
        if not status.backends:
            return False
        (backend,) = status.backends
        self.settled = backend.delivered + backend.dead + backend.filtered
        self.dead, self.last_error = backend.dead_letters, backend.last_error
        is_known = self._taken_at is not None and status.updated is not None and status.updated > self._taken_at
        return is_known and backend.left == 0


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _stop() -> None:
    from ...application.api import stop

    stop(0.0)
