"""Decides when a backend gets an encoder process: when the shipper process alone is too slow for several backends."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..._support.frozen import is_frozen
from ...backends.http.sender import Sender
from ...backends.jkool import JKool
from ...backends.protocol import AppContext
from ...backends.trakerr import Trakerr
from ...config.settings import Settings
from ...delivery.lending.lending import Lending
from ...spool.layout import Spool
from ..system import log
from ..system.host import LoadSampler
from .job import Job

if TYPE_CHECKING:
    from ...delivery.deliverer import Deliverer
    from .child import EncoderProcess

BUSY = 0.7  # of a core: with so much CPU use or more, backends wait for this process's interpreter
LOOK_SECONDS = 0.2  # between two measurements of the CPU use
IDLE_SECONDS = 5.0  # without a request before a process is ended
AGAIN_SECONDS = 60.0  # before another start, after a process failed or was of no use

_log = logging.getLogger(log.NAME)


@dataclass
class _Encoder:
    """A backend that may have a process, and the process."""

    lending: Lending
    job: Job
    process: EncoderProcess | None = None
    sent: int = 0  # `Lending.sent` when the process was started
    not_before: float = float("-inf")

    def is_wanted(self, now: float) -> bool:
        return self.process is None and self.lending.wants_one and now >= self.not_before


class Encoders:
    """The encoder processes of all backends. Used by the main thread.

    Only Trakerr's and jKool's requests are made there: these services accept or refuse a request as a whole, and these
    encoders keep no state between requests, which an encoder written by a user may do.
    """

    def __init__(self, context: AppContext, load: LoadSampler, spool: Spool) -> None:
        self._context = context
        self._load = load
        self._journal = spool.journal
        self._encoders: dict[str, _Encoder] = {}
        self._looked_at = time.monotonic()
        self._used = time.process_time()
        self._not_before = float("-inf")
        # An application that is frozen has no interpreter that could be started.
        self._most = 0 if is_frozen() or not sys.executable else usable_cores()

    def lending_of(self, description: Any, backend: Any, guard: Any, settings: Settings) -> Lending | None:
        """Return what a backend lends; None when its events have to be encoded in the shipper process.

        ``description``: as it is in the settings. ``backend``: opened. ``guard``: the `CrashGuard` around it.
        """
        if type(description) not in (Trakerr, JKool) or not isinstance(backend, Sender) or backend.max_events == 1:
            return None
        if not settings.batching.processes:
            return None
        context = self._context
        job = Job(
            description,
            takes_all=backend.name not in settings.joined,
            app=context.app,
            cwd=context.cwd,
            host=context.host,
            address=context.address,
            redact=settings.redact,
            journal=self._journal,
            max_events=min(backend.max_events, settings.batching.max_events),
            max_bytes=settings.batching.max_bytes,
        )
        lending = Lending(backend.send_body, lambda: not guard.has_suspects)
        self._encoders[backend.name] = _Encoder(lending, job)
        return lending

    def pid(self, name: str) -> int | None:
        """Return the pid of the encoder process of this backend; None when there is none."""
        encoder = self._encoders.get(name)
        return encoder.process.pid if encoder is not None and encoder.process is not None else None

    def update(self, deliverers: Iterable[Deliverer]) -> None:
        """Start and end processes, if it is time to. Called whenever something may have changed."""
        now = time.monotonic()
        elapsed = now - self._looked_at
        if self._most < 2 or not self._encoders or elapsed < LOOK_SECONDS:
            return
        used, self._used = self._used, time.process_time()
        self._looked_at = now
        for name, encoder in self._encoders.items():
            self._end_if_useless(name, encoder, now)
        busy = [each.name for each in deliverers if each.has_backlog]
        is_too_much = (self._used - used) / elapsed >= BUSY and now >= self._not_before
        running = sum(encoder.process is not None for encoder in self._encoders.values())
        if is_too_much and len(busy) > 1 and running < self._most:
            self._start_one(busy, now)

    def _start_one(self, busy: list[str], now: float) -> None:
        able = {name: encoder for name in busy if (encoder := self._encoders.get(name)) and encoder.is_wanted(now)}
        if not able:
            return
        from .child import EncoderProcess  # imported here: most shipper processes never need it

        # The larger the requests of a backend, the fewer of them this process has to send.
        name, encoder = max(able.items(), key=lambda each: each[1].job.max_events)
        try:
            encoder.process = EncoderProcess(encoder.job, name, lambda: self._load.samples)
        except OSError as error:
            self._not_before = now + AGAIN_SECONDS
            _log.warning("no process can be started that encodes for %s: %s", name, error)
            return
        encoder.lending.used_at, encoder.sent = now, encoder.lending.sent
        encoder.lending.borrower = encoder.process

    def _end_if_useless(self, name: str, encoder: _Encoder, now: float) -> None:
        process = encoder.process
        if process is None:
            return
        if encoder.lending.borrower is None or process.has_ended:
            self._not_before = now + AGAIN_SECONDS
            _log.warning("the process %d that encoded for %s has failed; it is done here again", process.pid, name)
        elif encoder.lending.is_on or now - encoder.lending.used_at < IDLE_SECONDS:
            return
        if encoder.lending.sent == encoder.sent:  # none of its requests was accepted
            encoder.not_before = now + AGAIN_SECONDS
        self._end(encoder)

    def _end(self, encoder: _Encoder) -> None:
        process, encoder.process, encoder.lending.borrower = encoder.process, None, None
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """End all encoder processes."""
        for encoder in self._encoders.values():
            self._end(encoder)


def usable_cores() -> int:
    """How many processors this process may use at the same time, by its affinity and its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = map(int, file.read().split())
        cores = min(cores, max(1, quota // period))
    return cores
