"""The deliverers of the process: one for each backend of the settings, and for each that clients join later."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..config.settings import Settings
from ..event.redact import Redactor
from ..journal.account import Account
from ..journal.cursors.cursor import Cursor
from ..journal.segments import Position
from ..spool.joined import pending_joins
from ..spool.layout import Spool
from ..spool.progress import ProgressWriter
from ..transport.memory.orphans import is_writer_gone
from .status.crashes import Crashes
from .threads import Threads

if TYPE_CHECKING:
    from ..delivery.deliverer import Deliverer
    from .encoders.encoders import Encoders
    from .system.host import LoadSampler

_ALL = 1_000_000  # stretches of the journal to follow, more than it has


class Deliveries:
    """Used by the main thread. ``on_settled`` is called by the deliverers' threads when events were settled.

    Each backend's thread writes to ``progress`` how far the backend has come.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        account: Account,
        crashes: Crashes,
        progress: ProgressWriter,
        on_settled: Callable[[], None],
    ) -> None:
        self.settings = settings
        self.load: LoadSampler | None = None  # once the backends are open
        self._spool = spool
        self._account = account
        self._progress = progress
        self._on_settled = on_settled
        self._context: Any = None
        self._deliverers: dict[str, Deliverer] = {}
        self._threads = Threads(crashes, encode=True)
        self._encoders: Encoders | None = None  # once the backends are open
        self._addresses: dict[str, tuple[str, int]] = {}
        self._paused: Mapping[str, float] = {}
        self._cursors = {backend.name: self._open_cursor(backend) for backend in settings.backends}

    def __iter__(self) -> Iterator[Deliverer]:
        return iter(list(self._deliverers.values()))  # a copy: the main thread may open another backend meanwhile

    def _open_cursor(self, backend: Any) -> Cursor:
        path = os.path.join(self._spool.cursors, f"{backend.name}.json")
        folders = (self._spool.overflow, self._spool.overflow_on_disk)
        cursor = Cursor(path, self._spool.journal, level=backend.level, gone=partial(is_writer_gone, folders))
        if cursor.base < 0:
            self._account.follow(_ALL)
            with contextlib.suppress(OSError):
                cursor.count_from(self._account.journaled + self._account.duplicates)
        return cursor

    @property
    def newest_segment(self) -> int:
        """The highest segment that a cursor has reached."""
        return max((cursor.position.segment for cursor in self._cursors.values()), default=1)

    @property
    def names(self) -> list[str]:
        """The names of the backends that are delivered to."""
        return list(self._cursors)

    def has_cursor(self, name: str) -> bool:
        """Whether a backend of this name is delivered to."""
        return name in self._cursors

    def positions(self) -> list[Position]:
        """The position of each backend that is not paused: every event before it is settled, and this is saved."""
        return [deliverer.progress.durable for deliverer in self if not deliverer.pause.is_on]

    @property
    def durable(self) -> list[Position]:
        """The position of each backend before which nothing is sent again after a crash."""
        return [deliverer.progress.durable for deliverer in self]

    @property
    def settled(self) -> int:
        """How many events are settled, at all backends together."""
        return sum(deliverer.progress.settled for deliverer in self)

    @property
    def is_drained(self) -> bool:
        return all(deliverer.drained.is_set() for deliverer in self)

    def look_again(self) -> None:
        """Make `is_drained` false until the events that were just journaled are delivered, too."""
        for deliverer in self:
            if not deliverer.pause.is_on:  # a paused backend delivers nothing, and counts as drained
                deliverer.drained.clear()
                deliverer.wake.set()

    def address(self, name: str) -> tuple[str, int]:
        """The URL of a backend, "" when it has none, and the lowest level that is sent there."""
        return self._addresses[name]

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the backends and start delivering."""
        # Imported here, while intake already runs: requests takes longer to import than everything else.
        from ..backends.protocol import AppContext
        from .encoders.encoders import Encoders
        from .system.host import LoadSampler, host_address, host_name

        settings = self.settings
        self.load = LoadSampler()
        mask = Redactor(settings.redact).mask_text
        self._context = AppContext(settings.app, settings.cwd, host_name(), host_address(), self.load, mask)
        self._encoders = Encoders(self._context, self.load, self._spool)
        for description in settings.backends:
            self._open_backend(description)

    def _open_backend(self, description: Any) -> None:
        from ..delivery.blame.crash_guard import CrashGuard, Encoder
        from ..delivery.dead.writer import DeadLetters
        from ..delivery.deliverer import Deliverer
        from .encoders.job import requests_of

        settings, spool = self.settings, self._spool
        if self.load is not None:
            self.load.sample_if_due()  # the first sample covers the time of these imports
        requests = requests_of(description)
        backend = backend_of(requests)
        backend.open(self._context)
        notes = os.path.join(spool.cursors, f"{backend.name}.encoding")
        guarded = CrashGuard(backend, notes) if isinstance(backend, Encoder) else backend
        deliverer = Deliverer(
            self._cursors[backend.name],
            guarded,
            DeadLetters(spool.dead, backend.name, limit=settings.spooling.dead),
            batching=settings.batching,
            retry=settings.retry,
            on_settled=functools.partial(self._settled, backend.name),
            # A backend that a client joined gets only events that name it: its key is not for the app's log records.
            takes_all=backend.name not in settings.joined,
            lending=self._encoders.lending_of(description, backend, guarded, settings) if self._encoders else None,
        )
        deliverer.pause.since = self._paused.get(backend.name)
        self._addresses[backend.name] = address_of(requests), backend.level
        self._deliverers[backend.name] = deliverer
        self._progress.write_backend(backend.name, deliverer.progress.durable)
        self._threads.start(backend.name, deliverer.run)

    def _settled(self, name: str) -> None:
        """Called by the threads of the backend of that name."""
        self._progress.write_backend(name, self._deliverers[name].progress.durable)
        self._on_settled()

    def take_joined(self, joins: int) -> bool:
        """Open the backends that clients have joined since the last call; whether there were any new ones."""
        is_new = False
        for backend in pending_joins(joins):
            if self.has_cursor(backend.name):
                continue
            self.settings = self.settings.with_joined([backend])
            self._cursors[backend.name] = self._open_cursor(backend)
            self._open_backend(backend)
            is_new = True
        return is_new

    # -- at work -----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """The journal has grown. May be called by any thread."""
        for deliverer in self:
            deliverer.wake.set()

    def set_paused(self, paused: Mapping[str, float]) -> None:
        """Pause these backends and no others, also those opened later. ``paused``: name → since when, epoch seconds."""
        self._paused = paused
        for deliverer in self:
            since = paused.get(deliverer.name)
            if since != deliverer.pause.since:
                deliverer.pause.set(since)

    def retry_now(self, name: str) -> None:
        """End the wait before the next attempt of this backend, if there is one."""
        if name in self._deliverers:
            self._deliverers[name].pause.interrupt()

    def set_drain_mode(
        self,
        draining: bool,
        *,
        final_to: Position | None,
        disk_blocked: bool,
        quota_reached: bool,
        flush_waiting: bool,
    ) -> None:
        for deliverer in self:
            deliverer.set_drain_mode(
                draining,
                final_to=final_to,
                disk_blocked=disk_blocked,
                quota_reached=quota_reached,
                flush_waiting=flush_waiting,
            )

    def update_encoders(self) -> None:
        """Start and end encoder processes, if that is due."""
        if self._encoders is not None:
            self._encoders.update(self)

    def encoder_pid(self, name: str) -> int | None:
        """Return the pid of the process that encodes for a backend; None when there is none."""
        return None if self._encoders is None else self._encoders.pid(name)

    def stop(self, deadline: float) -> None:
        """End all deliverers, and wait for the requests under way until ``deadline`` (`time.monotonic`)."""
        for deliverer in self:
            deliverer.stop()
        if self._encoders is not None:
            self._encoders.stop()
        self._threads.join(max(0.0, deadline - time.monotonic()))


def backend_of(requests: Any) -> Any:
    """Make the backend that a description stands for, without opening it."""
    from ..backends.deprecated import is_http_backend
    from ..backends.http.sender import Sender
    from ..backends.protocol import Described

    if isinstance(requests, Described):
        from ..backends.jetstream import JetStream
        from ..stream.publisher import Publisher

        assert isinstance(requests, JetStream)
        return Publisher(requests)
    # Open a copy: the settings may be pickled or hashed later, which fails with an open file in them.
    return Sender(requests) if is_http_backend(requests) else copy.deepcopy(requests)


def address_of(description: Any) -> str:
    """Where a backend sends to: scheme, host, port and path of its URL, without anything that may be a secret."""
    endpoint = getattr(description, "endpoint", "")
    try:
        found = urlsplit(endpoint if isinstance(endpoint, str) else "")
        port = f":{found.port}" if found.port else ""
    except ValueError:
        return ""
    return f"{found.scheme}://{found.hostname}{port}{found.path}" if found.hostname else ""
