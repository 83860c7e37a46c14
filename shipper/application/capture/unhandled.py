"""An unhandled exception that a middleware of ours has logged is logged by the server again: it is shipped once.

The middleware's record is the one that is shipped, since it has the request. What notes it is the handler that has
shipped it: where that record went nowhere, the server's is shipped.
"""

from __future__ import annotations

import contextlib
import logging

MIDDLEWARE = "shipper.request"
"""The logger of the middlewares in `shipper.integrations`."""

SERVERS = frozenset({
    "daphne.server", "gunicorn.error", "hypercorn.error", "uvicorn", "uvicorn.error", "waitress", "_granian",
})  # fmt: skip
"""Loggers of servers that log an exception which has left the application."""

_SHIPPED = "_shipper_shipped"  # on an exception


def is_repeated(record: logging.LogRecord) -> bool:
    """Whether a server logs an exception that was shipped with its request."""
    return record.name in SERVERS and bool(record.exc_info) and hasattr(_exception(record), _SHIPPED)


def note_shipped(record: logging.LogRecord) -> None:
    """The record was queued."""
    if record.name == MIDDLEWARE and record.exc_info:
        with contextlib.suppress(AttributeError):  # a class with slots
            setattr(_exception(record), _SHIPPED, True)


def _exception(record: logging.LogRecord) -> object:
    return record.exc_info[1] if isinstance(record.exc_info, tuple) else None
