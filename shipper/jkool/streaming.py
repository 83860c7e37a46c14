"""jKoolHandler, logEvent, logActivity, activity: stream events and activities to jKool."""

from __future__ import annotations

import logging
from typing import Final

from .activity import activity, logActivity
from .errors import AuthorizationError
from .handler import jKoolHandler
from .log import Logger, log
from .metrics import Property, Snapshot, spelled
from .scope import new_id
from .warn import about_fqn

HttpHandler = jKoolHandler

__all__ = [
    "AuthorizationError",
    "HttpHandler",
    "Property",
    "Snapshot",
    "activity",
    "jKoolHandler",
    "logActivity",
    "logEvent",
]


class _New:
    """Default of a tracking id: a new one for each event."""

    def __repr__(self) -> str:
        return "<a new one>"


_NEW: Final = _New()


def logEvent(
    logger: Logger,
    msg_text: object,
    source_fqn: str | None,
    tracking_id: object = _NEW,
    time_usec: object = None,
    corr_id: object = None,
    exception: object = None,
    resource: object = None,
    wait_time_used: object = None,
    source_url: object = None,
    severity: int | str = logging.INFO,
    pid: object = None,
    tid: object = None,
    comp_code: object = None,
    reason_code: object = None,
    location: object = None,
    operation: object = None,
    user: object = None,
    start_time_usec: object = None,
    end_time_usec: object = None,
    elapsed_time_usec: object = None,
    msg_size: object = None,
    encoding: object = None,
    charset: object = None,
    mime_type: object = None,
    msg_age: object = None,
    msg_tag: object = None,
    parent_tracking_id: object = None,
    properties: object = None,
    snapshots: object = None,
    *,
    exc_info: bool | BaseException | None = None,
) -> None:
    """Log ``msg_text`` with fields for jKool; all handlers of the logger get the record.

    ``source_fqn`` names the event's source: ``TYPE=name#TYPE=name…``. Every other parameter is a key of the event, with
    - for _, and any JSON value is sent as given, 0, "" and [] too; only None is left out. Times are microseconds since
    the epoch.

    Defaults: ``tracking_id`` a new UUID; ``time_usec`` the time of the call; ``operation`` the logger's name;
    ``parent_tracking_id`` that of the surrounding `activity`. ``severity``: a level, by number or name (INFO).
    ``exception``: a str, or an exception, whose traceback is sent; ``exc_info`` (True: the exception that is being
    handled) is used when there is none. ``properties`` and ``snapshots``: lists of `Property` and `Snapshot`, sent with
    their present content.

    Warns once, through `warnings`, of an invalid source_fqn, which is sent as given, and of a logger whose level hides
    the event. Raises ConfigurationError for a severity that is not a level.
    """
    about_fqn(source_fqn)
    tracking_id = new_id() if tracking_id is _NEW else tracking_id
    parent = None if tracking_id is None else str(tracking_id)
    given: dict[str, object] = {
        "operation": operation,
        "time-usec": time_usec,
        "msg-text": None if isinstance(msg_text, str) else msg_text,
        "corr-id": corr_id,
        "exception": None if isinstance(exception, BaseException) else exception,
        "resource": resource,
        "wait-time-used": wait_time_used,
        "source-url": source_url,
        "comp-code": comp_code,
        "reason-code": reason_code,
        "user": user,
        "start-time-usec": start_time_usec,
        "end-time-usec": end_time_usec,
        "elapsed-time-usec": elapsed_time_usec,
        "msg-size": msg_size,
        "encoding": encoding,
        "charset": charset,
        "mime-type": mime_type,
        "msg-age": msg_age,
        "msg-tag": msg_tag,
        "parent-tracking-id": parent_tracking_id,
        "properties": properties,
        "snapshots": spelled(snapshots, parent),
    }
    # None here keeps the key out of the event; otherwise the record's value would be sent.
    own = {"source-fqn": source_fqn, "tracking-id": tracking_id, "pid": pid, "tid": tid, "location": location}
    fields = {**{key: value for key, value in given.items() if value is not None}, **own}
    log(logger, severity, msg_text, fields, exception if isinstance(exception, BaseException) else exc_info)
