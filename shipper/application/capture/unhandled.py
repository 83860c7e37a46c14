"""Ships an unhandled exception once, although a middleware of this package and then the server log it.

The middleware's record is shipped, since it has the request, and the handler that queues it marks the exception. The
server's record is shipped if the exception has no mark.
"""

from __future__ import annotations

import contextlib
import logging

MIDDLEWARE = "shipper.request"
"""The logger of the middlewares in `shipper.integrations`."""

SERVERS = frozenset({
    "daphne.server", "gunicorn.error", "hypercorn.error", "uvicorn", "uvicorn.error", "waitress", "_granian",
})  # fmt: skip
"""Loggers on which servers log an exception that the application did not catch."""

_SHIPPED = "_shipper_shipped"  # on an exception


def is_repeated(record: logging.LogRecord) -> bool:
    """Whether this is a server's record of an exception that was shipped with its request."""
    return record.name in SERVERS and bool(record.exc_info) and hasattr(_exception(record), _SHIPPED)


def note_shipped(record: logging.LogRecord) -> None:
    """Mark the exception of a middleware's queued record."""
    if record.name == MIDDLEWARE and record.exc_info:
        with contextlib.suppress(AttributeError):  # a class with slots
            setattr(_exception(record), _SHIPPED, True)


def _exception(record: logging.LogRecord) -> object:
    return record.exc_info[1] if isinstance(record.exc_info, tuple) else None
