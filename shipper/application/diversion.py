"""Shipping that reaches no queue: switched off, or kept in memory for a test.

While a diversion is active, `shipper.start`, the clients and all handlers work as usual, with masking and packing;
the events go to the diversion, and no process is started.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import Any, cast

from .._support.unpatched import new_rlock
from ..event.model import EventId
from ..event.redact import Redact
from ..transport.drops import Drops, level_name
from .attachment import Attachment
from .capture.pipeline import Callbacks, Pipeline, set_pipeline

Keep = Callable[[EventId, bytes], None]
NAME = "diverted"


class DivertedQueue:
    """Replaces a `Producer`: every event is passed to ``keep``."""

    path = NAME
    closed = False

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._sequence = itertools.count()
        self._lock = new_rlock()
        self.token = os.urandom(8)
        self.drops: Drops = {}

    def put_sequence(self, payload: bytes, level: int) -> int:
        number = next(self._sequence)
        self._keep(EventId(self.token, number), payload)
        return number

    def drop(self, reason: str, level: int) -> None:
        name = level_name(level)
        with self._lock:
            levels = self.drops.setdefault(reason, {})
            levels[name] = levels.get(name, 0) + 1

    def ensure_current_process(self) -> None:
        """Do nothing: a diversion is bound to no process."""


class Diversion:
    """``backends`` are those that `shipper.start` and the clients were given since the diversion began.

    ``is_off``: nothing is kept, and a later `shipper.start` that ships ends the diversion.
    """

    def __init__(self, keep: Keep, *, is_off: bool = False) -> None:
        self.queue = DivertedQueue(keep)
        self.backends: list[Any] = []
        self.is_off = is_off
        self._attachments: list[Attachment] = []

    def start(self, *backends: Any, callbacks: Callbacks | None = None, redact: Redact | None = None) -> None:
        """Do what `shipper.start` does during a diversion, except attaching a handler."""
        self.add(*backends)
        names = tuple(backend.name for backend in backends) or (NAME,)
        pipeline = Pipeline(cast("Any", self.queue), names, callbacks=callbacks, redact=redact)
        if self.is_off:
            pipeline.pack_fast = lambda record: b""
        set_pipeline(pipeline)

    def attach(self, logger: logging.Logger, *, level: int = logging.NOTSET, wanted: int = logging.CRITICAL) -> None:
        """Attach a handler to the logger; its level is lowered to ``wanted`` as by `shipper.start`."""
        self._attachments.append(Attachment(logger, level=level, wanted=wanted))

    def add(self, *backends: Any) -> None:
        """Note backends that clients add."""
        self.backends += [each for each in backends if each not in self.backends]

    def end(self) -> None:
        while self._attachments:
            self._attachments.pop().detach()
        set_pipeline(None)


class _Current:
    diversion: Diversion | None = None


_current = _Current()


def current_diversion() -> Diversion | None:
    """The diversion that is active in this process, if any."""
    return _current.diversion


def divert(keep: Keep, *, is_off: bool = False) -> Diversion:
    """Begin a diversion; it is active until `end_diversion`."""
    end_diversion()
    diversion = _current.diversion = Diversion(keep, is_off=is_off)
    diversion.start()
    return diversion


def end_diversion() -> None:
    """End the active diversion, if any. Idempotent."""
    diversion, _current.diversion = _current.diversion, None
    if diversion is not None:
        diversion.end()


def switch_off() -> None:
    """Ship nothing from this process, whatever is logged: every event is dropped, uncounted, at little cost."""
    divert(lambda id, payload: None, is_off=True)
