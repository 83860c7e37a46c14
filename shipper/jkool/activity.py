"""Activities: which events belong together, how long it took, how it ended."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterable
from contextvars import Token
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from ..application.capture.handler import QueueHandler
from ..backends.settings import validators
from .log import Logger, log
from .metrics import now, spelled
from .places import jkool_backends
from .scope import MAX_EVENT_IDS, Scope, enter, leave, new_id
from .warn import about_fqn, about_status

P = ParamSpec("P")
R = TypeVar("R")
Status = Literal["UNKNOWN", "END", "EXCEPTION"]


def logActivity(
    logger: Logger | None,
    operation: str,
    source_fqn: str | None = None,
    tracking_id: str | None = None,
    status: Status | None = None,
    time_usec: int | None = None,
    start_time_usec: int | None = None,
    end_time_usec: int | None = None,
    elapsed_time_usec: int | None = None,
    *,
    event_ids: Iterable[str] = (),
    corr_id: object = None,
    exception: object = None,
    resource: object = None,
    location: object = None,
    user: object = None,
    parent_tracking_id: str | None = None,
    properties: object = None,
    snapshots: object = None,
    severity: int | str = logging.INFO,
) -> str:
    """Log an activity; returns its tracking id.

    ``logger``: the logger to use; with None the activity goes once to each jKool service that this process ships to.
    ``tracking_id``: default a new UUID. ``status``: default END, or EXCEPTION if there is an ``exception`` (a str, or
    an exception). Times are microseconds since the epoch; ``time_usec`` defaults to now; any two of start, end and
    elapsed time give the third. ``event_ids``: tracking ids of its events; at most 1000 are sent, and their number.
    ``parent_tracking_id``: default that of the surrounding `activity`. ``severity``: a level, by number or name (INFO).

    Warns once, through `warnings`, of an invalid source_fqn or status, which is sent as given, and of a logger whose
    level hides it. Raises ConfigurationError for a severity that is not a level.
    """
    about_fqn(source_fqn)
    ids = [str(each) for each in event_ids]
    fields: dict[str, object] = {
        "time-usec": time_usec,
        "source-fqn": source_fqn,
        "corr-id": corr_id,
        "resource": resource,
        "user": user,
        "parent-tracking-id": parent_tracking_id,
        "properties": properties,
        "location": location,
    }
    times = _times(start_time_usec, end_time_usec, elapsed_time_usec)
    found = new_id() if tracking_id is None else tracking_id
    outcome = status or ("END" if exception is None else "EXCEPTION")
    fields["snapshots"] = spelled(snapshots, found)
    _log(logger, operation, found, outcome, {**fields, **times}, ids[:MAX_EVENT_IDS], len(ids), exception, severity)
    return found


def _times(start: int | None, end: int | None, elapsed: int | None) -> dict[str, object]:
    if start is not None and end is not None and elapsed is None:
        elapsed = end - start
    elif start is not None and elapsed is not None and end is None:
        end = start + elapsed
    elif end is not None and elapsed is not None and start is None:
        start = end - elapsed
    return {"start-time-usec": start, "end-time-usec": end, "elapsed-time-usec": elapsed}


def _log(
    logger: Logger | None,
    operation: str,
    tracking_id: str,
    status: str,
    given: dict[str, object],
    ids: list[str],
    count: int,
    exception: object,
    severity: int | str,
) -> None:
    about_status(status)
    is_exception = isinstance(exception, BaseException)
    given = {**given, "exception": None if is_exception else exception}
    fields = {
        **{key: value for key, value in given.items() if value is not None},
        "operation": operation,
        "type": "ACTIVITY",
        "msg-text": None,
        "tracking-id": tracking_id,
        "location": given.get("location"),
        "status": status,
        "id-count": count,
        "id-set": ids,
    }
    logger = _every_service_logger() if logger is None else logger
    log(logger, severity, f"{operation} {status}", fields, exception if is_exception else None)


class _EveryServiceHandler(QueueHandler):
    """Ships once to each jKool service that this process ships to."""

    def emit(self, record: logging.LogRecord) -> None:
        self.route = jkool_backends(record.levelno)
        super().emit(record)


@functools.lru_cache(maxsize=1)
def _every_service_logger() -> logging.Logger:
    logger = logging.Logger("shipper.jkool.activity", logging.NOTSET)
    logger.addHandler(_EveryServiceHandler())
    return logger


class activity:
    """A block, or each call of a function (async ones too), as an activity.

    ``with activity("order") as order:`` times the block and logs the activity at its end, as `logActivity` does: status
    END, or, if the block raises, status EXCEPTION, severity ERROR and the exception, which is raised again. Events that
    are logged in the block have its ``tracking_id`` as their parent, and it lists their ids. Each thread has its own
    activity; an asyncio task begins with that of the task that made it. An activity within another is its child.

    ``@activity("order")`` makes each call of a function an activity, with a new tracking id.

    ``operation``: its name ("activity", or the function's). ``tracking_id``: default a new UUID. ``severity``: a level,
    by number or name, when nothing is raised (INFO). ``logger``, ``source_fqn``: as for `logActivity` (None).
    ``corr_id``, ``resource``, ``location``, ``user``, ``properties``, ``snapshots``: fields of the activity, as for
    `logEvent` (None: not sent).

    Raises ConfigurationError for a severity that is not a level, RuntimeError when it is entered a second time, and
    TypeError for a generator function.
    """

    def __init__(
        self,
        operation: str | None = None,
        logger: Logger | None = None,
        source_fqn: str | None = None,
        *,
        tracking_id: str | None = None,
        corr_id: object = None,
        resource: object = None,
        location: object = None,
        user: object = None,
        properties: object = None,
        snapshots: object = None,
        severity: int | str = logging.INFO,
    ) -> None:
        about_fqn(source_fqn)
        self.operation = operation or "activity"
        self.tracking_id = new_id() if tracking_id is None else tracking_id
        self.status: Status | None = None
        """The status to send; None for END or EXCEPTION, depending on how the block ends."""
        self._given: dict[str, Any] = {
            "operation": operation,
            "logger": logger,
            "source_fqn": source_fqn,
            "corr_id": corr_id,
            "resource": resource,
            "location": location,
            "user": user,
            "properties": properties,
            "snapshots": snapshots,
            "severity": validators.level("severity", severity),
        }
        self._scope = Scope(self.tracking_id)
        self._token: Token[Scope | None] | None = None
        self._started = 0
        self._clock = 0

    @property
    def event_ids(self) -> tuple[str, ...]:
        """Tracking ids of its events so far, at most 1000."""
        return tuple(self._scope.events)

    def __enter__(self) -> activity:
        if self._token is not None:
            raise RuntimeError("an activity can be entered only once: make another one")
        self._started = now()
        self._clock = time.perf_counter_ns()
        self._token = enter(self._scope)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None
        elapsed = (time.perf_counter_ns() - self._clock) // 1000
        leave(self._token)
        self._end(elapsed, value)

    def _end(self, elapsed: int, error: BaseException | None) -> None:
        given = self._given
        fields: dict[str, object] = {
            "source-fqn": given["source_fqn"],
            "corr-id": given["corr_id"],
            "resource": given["resource"],
            "location": given["location"],
            "user": given["user"],
            "properties": given["properties"],
            "snapshots": spelled(given["snapshots"], self.tracking_id),
            **_times(self._started, None, elapsed),
        }
        status = self.status or ("END" if error is None else "EXCEPTION")
        severity = given["severity"] if error is None else logging.ERROR
        ids = list(self._scope.events)
        _log(
            given["logger"], self.operation, self.tracking_id, status, fields, ids, self._scope.count, error, severity
        )

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("a generator can't be an activity: use `with` inside it")
        given = {**self._given, "operation": self._given["operation"] or function.__name__}
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with activity(**given):
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with activity(**given):
                return function(*args, **kwargs)

        return called
