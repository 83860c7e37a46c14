"""`shipper relay`: one process that delivers a stream's events to backends. Any number of them share the work.

It can be killed between any two instructions: what it has in hand goes to another relay after the `ack_wait` of the
consumer. Ended by SIGTERM or Ctrl-C it delivers what it has in hand, and gives back what its backends do not take now.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from types import FrameType
from typing import Any

from ..backends.jetstream import JetStream
from ..backends.protocol import AppContext
from ..config.settings import Settings
from ..errors import ConfigurationError
from ..event.redact import Redactor
from ..process.drain import Drain
from ..process.status.crashes import Crashes
from ..process.system import log
from ..process.system.host import LoadSampler, host_address, host_name
from ..process.threads import block_fatal_signals
from ..process.waker import Waker
from ..spool.files import reclaim_file
from ..spool.kernel import boot_id, namespace
from ..spool.layout import Spool
from ..spool.lock import LockInfo, claim
from ..stream.client import Client
from .deliveries import Consuming, Deliveries
from .status import RelayStatus

GRACE_SECONDS = 10.0  # at most, without a settled event, before the rest is given back
END_SECONDS = 5.0  # for requests under way
ROUND_SECONDS = 0.5
DRAIN_ROUND_SECONDS = 0.05
RETRY_SECONDS = 1.0  # between two attempts to get the consumers that are missing

_log = logging.getLogger(log.NAME)


class Relay:
    """One relay. Its folder is that of ``settings``; BlockingIOError when another one runs there."""

    def __init__(self, settings: Settings, stream: JetStream, consuming: Consuming) -> None:
        for backend in settings.backends:
            if isinstance(backend, JetStream) and backend.stream == stream.stream:
                raise ConfigurationError("backends", backend.name, "a relay must not deliver into its own stream")
        self._settings = settings
        self._spool = Spool(settings.spool)
        self._spool.prepare()
        claim(self._spool, settings.app)
        self._lock = _locked(self._spool, settings)
        self._crashes = Crashes(self._spool.crash)
        self._waker = Waker()
        self._is_terminated = False
        self._drain = Drain(min(settings.grace, GRACE_SECONDS))
        self._opened_at = float("-inf")
        host = host_name()
        self._client = Client(stream, name=f"shipper relay {consuming.durable} on {host}")
        mask = Redactor(settings.redact).mask_text
        context = AppContext(settings.app, settings.cwd, host, host_address(), LoadSampler(), mask)
        self._deliveries = Deliveries(
            settings,
            stream,
            consuming,
            self._client,
            spool=self._spool,
            context=context,
            crashes=self._crashes,
            on_settled=self._on_settled,
        )
        about = {"app": settings.app, "host": host, "digest": settings.digest}
        about["relay"] = {"stream": stream.stream, "durable": consuming.durable}  # type: ignore[assignment]
        self._status = RelayStatus(self._spool, self._deliveries, self._client, about)
        self._relays_subject = stream.relays_subject

    def run(self) -> None:
        """Deliver until SIGTERM or SIGINT, in the main thread."""
        log.set_up(self._spool.log, self._settings.app)
        self._crashes.note_start()
        self._install_signal_handlers()
        self._client.keep_subscribed(self._relays_subject, self._status.answer)
        self._status.write()
        _log.info("relay started, pid %d", os.getpid())
        while not self._is_over():
            self._do_round()
            self._waker.wait(DRAIN_ROUND_SECONDS if self._is_terminated else ROUND_SECONDS)
        self._end()

    def _install_signal_handlers(self) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._on_terminate)
        for ignored in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(ignored, signal.SIG_IGN)
        block_fatal_signals()

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._is_terminated = True
        self._waker.wake()

    def _on_settled(self) -> None:
        if self._is_terminated:
            self._waker.wake()

    def _do_round(self) -> None:
        now = time.monotonic()
        if not self._is_terminated and self._deliveries.missing and now - self._opened_at >= RETRY_SECONDS:
            self._deliveries.open_missing()
            self._opened_at = time.monotonic()
        if self._is_terminated and not self._drain.is_draining:
            self._deliveries.drain()
        self._drain.update(self._is_terminated, settled=self._deliveries.settled)
        self._crashes.clear_if_healthy()
        self._status.write_if_due()

    def _is_over(self) -> bool:
        return self._drain.is_draining and (self._deliveries.is_drained or self._drain.is_out_of_time)

    def _end(self) -> None:
        self._deliveries.stop(END_SECONDS)
        self._status.write(last=True)
        self._client.close()
        self._crashes.clear()
        _log.info("relay ended")
        os.close(self._lock)


def _locked(spool: Spool, settings: Settings) -> int:
    """Lock the lock file and return its descriptor. BlockingIOError when another process has locked it."""
    lock = reclaim_file(spool.lock, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    info: dict[str, Any] = {"boot": boot_id(), "pids": namespace("pid")}
    LockInfo(pid=os.getpid(), started=time.time(), digest=settings.digest, **info).write(lock)
    return lock
