"""A backend for development: what is shipped, as lines on the terminal or in a file."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigurationError, DeliveryError, RetryableError
from ..event.model import Event
from .protocol import AppContext
from .settings import validators
from .wire.json_body import readable
from .wire.source_lines import exception_text


@dataclass
class Console:
    """Writes one line per event: time, level, logger, message, fields; then the traceback.

    ``path``: a file, which is appended to, or a terminal; by default the terminal that the application is started from
    (its stderr, stdout or stdin). Raises ConfigurationError when there is none: under cron, in a container, in a pipe;
    and for a wrong value. ``level``: the lowest that is written (NOTSET). ``max_events``: the most in one write (100).
    ``max_in_flight``: the most writes at the same time (1).
    """

    path: str | None = None
    level: int = logging.NOTSET
    name: str = "console"
    max_events: int = 100
    max_in_flight: int = 1

    def __post_init__(self) -> None:
        self.level = validators.level("Console.level", self.level)
        validators.name("Console.name", self.name)
        if self.path is None:
            self.path = _terminal()
        if not isinstance(self.path, (str, os.PathLike)) or not os.fspath(self.path):
            raise ConfigurationError("Console.path", self.path, "must be the path of a file or terminal")
        self.path = os.path.abspath(self.path)

    def open(self, context: AppContext) -> None:
        self._context = context
        self._file = -1

    def send(self, events: Sequence[Event]) -> Sequence[DeliveryError | None]:
        text = "".join(self._lines(event) for event in events)
        try:
            if self._file < 0:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
                self._file = os.open(str(self.path), flags, 0o600)
            os.write(self._file, text.encode("utf-8", "backslashreplace"))
        except OSError as error:  # the terminal was closed, the disk is full
            self.close()
            return [RetryableError(f"{self.path}: {error.strerror}")] * len(events)
        return [None] * len(events)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _lines(self, event: Event) -> str:
        time = datetime.datetime.fromtimestamp(event.time).strftime("%H:%M:%S.%f")[:-3]
        fields = {**event.context, **event.extra, **event.data}
        line = f"{time} {event.level_name:<8} {event.logger or 'root'}: {event.message}"
        parts = [f"{line} {readable(fields)}" if fields else line]
        parts += [text for text in (exception_text(event, self._context), event.stack) if text]
        return "\n".join([*parts, ""])


def _terminal() -> str:
    for descriptor in (2, 1, 0):
        try:
            return os.ttyname(descriptor)
        except OSError:
            continue
    raise ConfigurationError("Console.path", None, "there is no terminal here: give the path of a file")
