"""The shipper process's own log: a rotating file in the spool, warnings also on stderr, repeated ones counted."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
import time
from io import TextIOWrapper

from ..spool.files import reclaim_file

NAME = "shipper.process"
REPEAT = 60.0  # seconds in which the same warning is said once
_BYTES = 1024 * 1024
_START = 60  # characters of a reason that tell it from another one


class _File(logging.handlers.RotatingFileHandler):
    """A file of the spool: it follows no link."""

    def _open(self) -> TextIOWrapper:
        fd = reclaim_file(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return open(fd, "a", encoding=self.encoding, errors=self.errors)


class _Once(logging.Filter):
    """Lets a message through once in `REPEAT` seconds, the next time with how often it came meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = _subject(record)
        said, times = self._seen.get(key, (float("-inf"), 0))
        if time.monotonic() - said < REPEAT:
            self._seen[key] = (said, times + 1)
            return False
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (time.monotonic(), 0)
        if times:
            record.msg = f"{record.msg} (and {times} times more before)"
        return True


def _subject(record: logging.LogRecord) -> str:
    """What a message is about: its text and the beginnings of what is put into it, without the numbers."""
    parts = record.args if isinstance(record.args, tuple) else ()
    return "\0".join([str(record.msg), *(part[:_START] for part in parts if isinstance(part, str))])


def set_up(path: str, app: str) -> logging.Logger:
    """The logger of the process. It never reaches the root logger, so nothing it says is shipped."""
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addFilter(_Once())
    try:
        file = _File(path, maxBytes=_BYTES, backupCount=1, encoding="utf-8", delay=True)
    except OSError:
        file = None
    line = logging.Formatter(f"%(asctime)s shipper[{app}] %(levelname)s %(message)s")
    for handler in (file, logging.StreamHandler(sys.stderr)):
        if handler is None:
            continue
        handler.setFormatter(line)
        handler.setLevel(logging.WARNING if type(handler) is logging.StreamHandler else logging.INFO)
        logger.addHandler(handler)
    logging.raiseExceptions = False  # a full disk or a closed stderr is no reason to write tracebacks
    return logger
