"""APPLICATION - record → event → bytes → queue, in the thread that logs, without waiting for anything."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..event.model import Event
from ..event.redact import Redact, Redactor
from ..event.truncate import pack
from .callback_guard import CallbackGuard, CircuitOpen, P, R
from .fast_path import build_fast_packer
from .record import from_record

if TYPE_CHECKING:
    from ..transport.producer import Producer

BeforeSend = Callable[[Event], "Event | None"]
Context = Callable[[], Mapping[str, object]]
EARLY = 1000  # events kept from before start()
SENT = "_shipper_sent"  # on a record: (path of the queue it is on its way in, the names of the backends it is for)
_QUIET = 60.0  # seconds between two lines about the same trouble

_said: dict[str, float] = {}

if TYPE_CHECKING or not (3, 12) <= sys.version_info < (3, 12, 4):
    _Base = logging.handlers.QueueHandler
else:

    class _Base(logging.Handler):
        # There dictConfig insists on a list of handlers for each QueueHandler, and forgets all other settings.
        def __init__(self, queue: object) -> None:
            super().__init__()
            self.queue = queue


def warn_on_stderr(what: str, detail: str = "") -> None:
    """One line a minute about a trouble, to the real stderr: never through logging, where it would come back to us."""
    now = time.monotonic()
    if now - _said.get(what, float("-inf")) < _QUIET:
        return
    _said[what] = now
    stream = sys.__stderr__
    if stream is None:
        return
    try:
        stream.write(f"shipper: {what}{': ' if detail else ''}{detail}\n")
        stream.flush()
    except (OSError, ValueError):
        return


def _warn_full(full: queue.Full) -> None:
    warn_on_stderr(f"events are dropped ({full}); `shipper status` counts them")


class Callbacks(NamedTuple):
    """The application's own functions: `before_send` sees every event, `context` is asked at every record."""

    before_send: BeforeSend | None = None
    context: Context | None = None


def _bounded(function: Callable[P, R] | None, trouble: str, clock: Callable[[], float]) -> Callable[P, R] | None:
    """A function that logging calls do not wait for again and again; `trouble` is said when it is left alone."""
    if function is None:
        return None

    def tell(took: float, rest: float) -> None:
        warn_on_stderr(trouble, f"it took {took:.1f} s, and is tried again in {rest:.0f} s")

    return CallbackGuard(function, tell, clock=clock)


class Pipeline:
    """What every handler of the process shares: the queue, and what is done to an event before it gets there."""

    def __init__(
        self,
        queue: Producer,
        names: tuple[str, ...] = (),
        *,
        redact: Redact | None = None,
        callbacks: Callbacks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue = queue
        self.names = names  # of the backends that start() was given: where events go that name none
        self.callbacks = callbacks or Callbacks()
        before_send, context = self.callbacks
        self.context = _bounded(context, "`context` is slow, events go out without it for a while", clock)
        self._before_send = _bounded(before_send, "`before_send` is slow, events are dropped for a while", clock)
        self._redactor = Redactor(redact or Redact())
        is_plain = bool(names) and self._before_send is None and self.context is None
        self.pack_fast = build_fast_packer(self._redactor) if is_plain else None
        self.sent = (queue.path, names)  # what `SENT` is on a record that went straight

    def put(self, event: Event, *, plain: bool = False) -> bool:
        """Change, mask, pack and queue one event; False when it was dropped, which is counted by then. Never raises.

        `plain` says that the event is as `from_record` made it: it need not be looked through before it is masked.
        """
        level = event.level
        payload = self.packed(event, plain=plain)
        if payload is None:
            return False
        return self.put_packed(payload, level)

    def put_packed(self, payload: bytes, level: int) -> bool:
        now = _running if self.queue.closed and _running is not None else self  # start() has changed it under our feet
        try:
            now.queue.put_sequence(payload, level)
        except queue.Full as full:
            _warn_full(full)
            return False
        return True

    def packed(self, event: Event, *, plain: bool = False) -> bytes | None:
        """The event as it may leave the application; None when it was dropped, which is counted by then."""
        reason = "before_send"
        try:
            changed = event if self._before_send is None else self._before_send(event)
            if changed is None:
                self.queue.drop(reason, event.level)
                return None
            reason = "redact"
            self._redactor(changed, plain=plain and self._before_send is None)
            reason = "failed"
            return pack(changed)
        except CircuitOpen:
            self.queue.drop(reason, event.level)
            return None
        except Exception as error:  # never sent raw: what could not be masked is dropped, and counted
            self.queue.drop(reason, event.level)
            warn_on_stderr(f"an event was dropped ({reason})", repr(error))
            return None


_running: Pipeline | None = None
_early: deque[Event] = deque()
_too_early: dict[int, int] = {}  # level → how many did not fit into it


def running() -> Pipeline | None:
    """The pipeline of this process, once start() was called."""
    return _running


def set_pipeline(pipeline: Pipeline | None) -> None:
    """From now on handlers that were made without one use this pipeline; what they kept from before goes first."""
    global _running
    _running = pipeline
    if pipeline is not None and pipeline.names:
        _ship_early(pipeline)


def _ship_early(pipeline: Pipeline) -> None:
    with contextlib.suppress(IndexError):  # another thread may do the same
        while True:
            pipeline.put(_early.popleft())
    while _too_early:
        level, count = _too_early.popitem()
        for _ in range(count):
            pipeline.queue.drop("not_started", level)


Scope = Callable[[Event, logging.LogRecord], None]
_enrichers: list[Scope] = []


def add_enricher(fill: Scope) -> None:
    """From now on `fill` sees every event that is made of a record, with the record, in the thread that logs. It must
    not raise."""
    _enrichers.append(fill)


class LocklessHandler(logging.Handler):
    """A handler in which no thread waits for another."""

    def createLock(self) -> None:
        """None: two threads may be in here at once, and a forked child must not inherit a lock that is taken."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        passed: object = self.filter(record)
        if isinstance(passed, logging.LogRecord):  # since 3.12 a filter may replace the record
            record = passed
        if passed:
            self.emit(record)
        return bool(passed)


class QueueHandler(LocklessHandler, _Base):
    """Ships every record that reaches it. Use it with `start()`, or in `logging.config.dictConfig`:
    ``{"class": "shipper.QueueHandler"}``; records from before `start()` are kept, at most 1000.

    ``level`` is a number or a name, ``route`` the names of the backends it ships to (default: all of them).
    """

    def __init__(
        self, queue: object = None, *, level: int | str = logging.NOTSET, route: Sequence[str] | None = None
    ) -> None:
        # dictConfig of Python 3.12 hands a queue.Queue of its own to every QueueHandler; ours is always the process's.
        super().__init__(queue)  # type: ignore[arg-type]
        self.setLevel(level)
        self.route = _names(route)

    @property
    def queue(self) -> Any:
        """What this process ships through, as a `multiprocessing.Queue`; None before `start()`."""
        if _running is None:
            return None
        from ..transport.queue import RecordQueue  # shipping itself does without multiprocessing

        return RecordQueue.of(_running.queue)

    @queue.setter
    def queue(self, queue: object) -> None:
        """Not taken: the queue is always the process's."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter and ship the record; straight into the queue where nobody but us has a hand in it."""
        pipeline = _running
        if (
            pipeline is None
            or pipeline.pack_fast is None
            or _enrichers
            or self.filters
            or self.route is not None
            or type(self) is not QueueHandler
        ):
            return super().handle(record)
        try:
            payload = pipeline.pack_fast(record)
        except Exception:  # no usual record, whatever it is
            return super().handle(record)
        try:
            record.__dict__[SENT] = pipeline.sent
            if pipeline.queue.closed:
                pipeline.put_packed(payload, record.levelno)
            else:  # as it does, with a call less
                pipeline.queue.put_sequence(payload, record.levelno)
        except queue.Full as full:
            _warn_full(full)
        except Exception:
            self.handleError(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Ship the record, to each backend once however many of our handlers see it. Nothing that is logged raises."""
        pipeline = _running
        try:
            if pipeline is None or (self.route is None and not pipeline.names):  # only clients have begun
                self._keep(self.prepare(record))
                return
            route = self._claim(record, pipeline)
            if route == ():
                return
            event = self.prepare(record)
            event.route = route
            pipeline.put(event, plain=not _enrichers)
        except Exception:
            self.handleError(record)

    def _claim(self, record: logging.LogRecord, pipeline: Pipeline) -> tuple[str, ...] | None:
        """The backends that this handler ships the record to, less those that another one already did; None is all."""
        # Plain data: other handlers pickle the record, for processes and machines that know nothing of shipper.
        path, sent = record.__dict__.get(SENT, ("", ()))
        wanted = self.route if self.route is not None else pipeline.names
        if path != pipeline.queue.path:
            record.__dict__[SENT] = (pipeline.queue.path, wanted)
            return self.route
        fresh = tuple(name for name in wanted if name not in sent)
        record.__dict__[SENT] = (path, (*sent, *fresh))
        return fresh

    def prepare(self, record: logging.LogRecord) -> Any:
        """The record as an event: formatted, with its exceptions as plain data."""
        pipeline = _running
        event = from_record(record, context=pipeline.context if pipeline is not None else None)
        for fill in _enrichers:
            fill(event, record)
        return event

    def enqueue(self, record: Any) -> None:
        """Queue an event that `prepare` made."""
        pipeline = _running
        if pipeline is None:
            self._keep(record)
            return
        pipeline.put(record)

    def _keep(self, event: Event) -> None:
        if len(_early) < EARLY:
            _early.append(event)
            if _running is not None and _running.names:  # start() came in between
                _ship_early(_running)
            return
        _too_early[event.level] = _too_early.get(event.level, 0) + 1
        warn_on_stderr("events from before shipper.start() are dropped: there are more than 1000 of them")

    def handleError(self, record: logging.LogRecord) -> None:
        """Say it once a minute; the application does not hear of it."""
        warn_on_stderr("an event could not be made", repr(sys.exc_info()[1]))


def _names(route: Sequence[str] | None) -> tuple[str, ...] | None:
    """As a tuple; a single name is one name, and not its letters."""
    if route is None:
        return None
    return (route,) if isinstance(route, str) else tuple(route)
