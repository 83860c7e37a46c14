"""loguru: a sink that ships, with bound values as typed extras and exceptions as data.

>>> logger.add(sink, level="INFO")

loguru's ``enqueue=True`` is not needed: a record would only wait in loguru's queue first.
"""

from __future__ import annotations

import logging
from typing import Any

from ..application.capture.handler import QueueHandler

_handler = QueueHandler()


def sink(message: Any) -> None:
    """Ship a message of loguru; to be given to ``logger.add``."""
    said = message.record
    error = said["exception"]
    record = logging.LogRecord(
        said["name"] or "loguru",
        said["level"].no,
        said["file"].path,
        said["line"],
        said["message"],
        (),
        None if error is None else (error.type, error.value, error.traceback),
        said["function"],
    )
    record.levelname = said["level"].name
    record.created = said["time"].timestamp()
    record.process, record.processName = said["process"].id, said["process"].name
    record.thread, record.threadName = said["thread"].id, said["thread"].name
    for key, value in said["extra"].items():
        record.__dict__.setdefault(str(key), value)
    _handler.handle(record)
