"""QueueHandler: record → event → queue, in the thread that logs, without waiting for anything.

A record goes `handle → emit → prepare → Pipeline.enqueue`; a usual one takes the fast path right away in `handle`.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...backends.settings import validators
from ...event.model import Event
from ..stderr import warn_on_stderr, warn_once_on_stderr
from .pipeline import Pipeline, active, early_events, warn_full
from .record import from_record
from .unhandled import is_repeated, note_shipped

SHIPPED = "_shipper_sent"  # on a record: (path of the queue that has it, names of the backends it is for)

if TYPE_CHECKING or not (3, 12) <= sys.version_info < (3, 12, 4):
    _Base = logging.handlers.QueueHandler
else:

    class _Base(logging.Handler):
        # In 3.12.0 to 3.12.3 dictConfig wants a list of handlers for each QueueHandler, and ignores all other settings.
        def __init__(self, queue: object) -> None:
            super().__init__()
            self.queue = queue


Enricher = Callable[[Event, logging.LogRecord], None]
_enrichers: list[Enricher] = []


def add_enricher(enrich: Enricher) -> None:
    """Call `enrich(event, record)` for every event made of a record from now on, in the thread that logs.

    The function must not raise.
    """
    _enrichers.append(enrich)


class LocklessHandler(logging.Handler):
    """A handler without a lock: threads do not wait for each other, and a forked child inherits no taken lock."""

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        passed: object = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # since Python 3.12 a filter may replace the record
            record = passed
        if passed:
            self.emit(record)
        return bool(passed)


class QueueHandler(LocklessHandler, _Base):
    """Ships every record that reaches it. Use it with `start()`, or in `logging.config.dictConfig`:
    ``{"class": "shipper.QueueHandler"}``; records from before `start()` are kept, at most 1000.

    ``level`` is a number, or a name in any case (NOTSET); ConfigurationError for anything else. ``route``: the names of
    the backends it ships to (default: all). ``queue`` is ignored, since the queue is always the process's. A formatter
    is ignored too, and a line on stderr says so: the message and the other fields are shipped apart.
    """

    def __init__(
        self, queue: object = None, *, level: int | str = logging.NOTSET, route: Sequence[str] | None = None
    ) -> None:
        # dictConfig of Python 3.12 passes a queue.Queue of its own to every QueueHandler; it is ignored.
        super().__init__(queue)  # type: ignore[arg-type]
        self.setLevel(level)
        self.route = _as_names(route)
        self.on_close: Callable[[], None] | None = None
        """Called when the handler is closed, which code that configures logging does with all handlers."""

    def setLevel(self, level: int | str) -> None:
        """Set the level: a number, or a name in any case. Raises ConfigurationError for anything else."""
        super().setLevel(validators.level("level", level))

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        super().setFormatter(fmt)
        # basicConfig gives its own to handlers that have none.
        if fmt is not None and getattr(fmt, "_fmt", None) != logging.BASIC_FORMAT:
            warn_once_on_stderr(
                "shipper.QueueHandler ignores its formatter: the message and the other fields are shipped apart; to "
                "change messages, use before_send="
            )

    @property
    def queue(self) -> Any:
        """The process's queue, with the methods of a `multiprocessing.Queue`; None before `start()`."""
        if active.pipeline is None:
            return None
        from ...transport.queue import RecordQueue  # shipping itself does not need multiprocessing

        return RecordQueue.of(active.pipeline.queue)

    @queue.setter
    def queue(self, queue: object) -> None:
        """Ignored: the queue is always the process's."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Ship the record unless a filter rejects it; whether it passed. Never raises."""
        return self._ship_fast(record) or super().handle(record)

    def _ship_fast(self, record: logging.LogRecord) -> bool:
        """Ship the record by the fast path; False when that does not suit this handler or this record."""
        pipeline = active.pipeline
        if (
            pipeline is None
            or pipeline.pack_fast is None
            or _enrichers
            or self.filters
            or self.route is not None
            or type(self) is not QueueHandler
        ):
            return False
        try:
            payload = pipeline.pack_fast(record)
        except Exception:  # not a usual record: FastPathUnavailable, or what formatting it raises
            return False
        try:
            record.__dict__[SHIPPED] = pipeline.shipped_to
            if pipeline.queue.closed:
                pipeline.enqueue_packed(payload, record.levelno)
            else:  # what `enqueue_packed` does, with one call less
                pipeline.queue.put_sequence(payload, record.levelno)
        except queue.Full as full:
            warn_full(full)
        except Exception:
            self.handleError(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Ship the record, once to each backend even if several of our handlers get it. Never raises."""
        pipeline = active.pipeline
        try:
            if pipeline is None or (self.route is None and not pipeline.names):  # start() was not called yet
                early_events.keep(self.prepare(record))
                return
            if is_repeated(record):
                return
            route = self._route(record, pipeline)
            if route == ():
                return
            event = self.prepare(record)
            event.route = route
            pipeline.enqueue(event, is_sanitized=not _enrichers)
            if self.route is None:
                note_shipped(record)
        except Exception:
            self.handleError(record)

    def _route(self, record: logging.LogRecord, pipeline: Pipeline) -> tuple[str, ...] | None:
        """The backends that this handler ships the record to; None is all of them, () none."""
        wanted = pipeline.names if self.route is None else self.route
        claimed = claim(record, pipeline.queue.path, wanted)
        return self.route if claimed is wanted else claimed

    def prepare(self, record: logging.LogRecord) -> Any:
        """The record as an event: message formatted, exceptions as plain data."""
        pipeline = active.pipeline
        event = from_record(record, context=pipeline.context if pipeline is not None else None)
        for enrich in _enrichers:
            enrich(event, record)
        return event

    def enqueue(self, record: Any) -> None:
        """Queue an event that `prepare` made: the standard library's name for `Pipeline.enqueue`."""
        pipeline = active.pipeline
        if pipeline is None:
            early_events.keep(record)
            return
        pipeline.enqueue(record)

    def close(self) -> None:
        super().close()
        if self.on_close is not None:
            self.on_close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Warn on stderr, once a minute; nothing is raised into the application."""
        warn_on_stderr("an event could not be made", repr(sys.exc_info()[1]))


def claim(record: logging.LogRecord, queue_path: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that no handler has shipped the record to; `names` itself when that is all of them.

    The names are noted on the record as plain data: other handlers may pickle it for processes and machines without
    this package.
    """
    path, shipped = record.__dict__.get(SHIPPED, ("", ()))
    if path != queue_path:
        record.__dict__[SHIPPED] = (queue_path, names)
        return names
    fresh = tuple(name for name in names if name not in shipped)
    record.__dict__[SHIPPED] = (path, (*shipped, *fresh))
    return fresh


def _as_names(route: Sequence[str] | None) -> tuple[str, ...] | None:
    """The route as a tuple; a text is one name."""
    if route is None:
        return None
    return (route,) if isinstance(route, str) else tuple(route)
