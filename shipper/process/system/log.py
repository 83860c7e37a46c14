"""The shipper process's own log: a rotating file in the spool, warnings on stderr too, repeated ones counted."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import time
from io import TextIOWrapper

from ...spool.files import reclaim_file

NAME = "shipper.process"
REPEAT_SECONDS = 60.0  # in which the same message is logged once
_FILE_BYTES = 1024 * 1024
_KEY_CHARACTERS = 60  # of a text argument, by which two messages are told apart
_MAX_KEYS = 1000


class _SpoolFileHandler(logging.handlers.RotatingFileHandler):
    """Writes to a file of the spool, and follows no link."""

    def _open(self) -> TextIOWrapper:
        fd = reclaim_file(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return open(fd, "a", encoding=self.encoding, errors=self.errors)

    def reopen_if_removed(self) -> None:
        """Write to a new file when a cleaner has removed the open one."""
        with contextlib.suppress(OSError):
            if self.stream is not None and not os.fstat(self.stream.fileno()).st_nlink:
                self.acquire()
                try:
                    self.stream.close()
                    self.stream = self._open()
                finally:
                    self.release()


class _RepeatFilter(logging.Filter):
    """Lets a message through once in `REPEAT_SECONDS`; the next one says how often it was repeated meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = _key(record)
        logged_at, repeats = self._seen.get(key, (float("-inf"), 0))
        if time.monotonic() - logged_at < REPEAT_SECONDS:
            self._seen[key] = (logged_at, repeats + 1)
            return False
        if len(self._seen) > _MAX_KEYS:
            self._seen.clear()
        self._seen[key] = (time.monotonic(), 0)
        if repeats:
            record.msg = f"{record.msg} (repeated {repeats} times before)"
        return True


def _key(record: logging.LogRecord) -> str:
    """The message's format and the beginnings of its text arguments, without the numbers."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return "\0".join([str(record.msg), *(text[:_KEY_CHARACTERS] for text in arguments if isinstance(text, str))])


def reopen_if_removed() -> None:
    """Make the file of the log again when a cleaner has removed it."""
    for handler in logging.getLogger(NAME).handlers:
        if isinstance(handler, _SpoolFileHandler):
            handler.reopen_if_removed()


def set_up(path: str, app: str) -> logging.Logger:
    """Configure the logger of the process. It does not propagate to the root logger, so its records are not shipped."""
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addFilter(_RepeatFilter())
    formatter = logging.Formatter(f"%(asctime)s shipper[{app}] %(levelname)s %(message)s")
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [stderr]
    with contextlib.suppress(OSError):
        handlers.append(_SpoolFileHandler(path, maxBytes=_FILE_BYTES, backupCount=1, encoding="utf-8", delay=True))
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    logging.raiseExceptions = False  # a full disk or a closed stderr is no reason to write tracebacks
    return logger
