"""jKoolHandler ships records to jKool."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

from ..application.capture.handler import LocklessHandler
from ..application.client import ClientBinding, ClientHandler
from ..backends.jkool import JKool
from ..backends.settings import validators
from ..config.settings import identity
from ..event.model import Event
from .scope import FIELDS

URL = "SHIPPER_JKOOL_URL"
"""Environment variable: the service's address, when no ``url`` is given."""


class jKoolHandler(LocklessHandler):
    """Ships records to jKool. Making one starts the shipper process unless it runs.

    ``token``: the access token. ``url``: the service's address (``SHIPPER_JKOOL_URL``, else
    https://data.jkoolcloud.com). ``level``: a number or a name (INFO). ``accessToken`` and ``urlStr``: tnt4py's names
    of the first two. Events are sent one after the other, in the order of logging; `shipper.start()` can send several
    at the same time. A record goes to one token once, however many handlers get it. With a formatter, its output is the
    message; that of `logEvent` is sent as given.

    A logging call never raises, waits or prints. A closed handler ships nothing: `shipper status` counts the records as
    ``after_stop``. While the server is down or refuses the token, events wait.

    Raises ConfigurationError for an invalid token, address or level.
    """

    def __init__(
        self,
        token: str | None = None,
        url: str | None = None,
        level: int | str = logging.INFO,
        *,
        accessToken: str | None = None,
        urlStr: str | None = None,
    ) -> None:
        super().__init__(validators.level("level", level))
        token = accessToken if token is None else token
        given = urlStr if url is None else url
        url = os.environ.get(URL, JKool.url) if given is None else given
        # JKool rejects None as a token. The handler checks the level, since `setLevel` may change it.
        backend = JKool(token, url, level=logging.NOTSET, max_in_flight=1)  # type: ignore[arg-type]
        # The name depends on the token: another process of the app may have a handler with another token.
        backend = dataclasses.replace(backend, name=f"jkool-{identity(backend)}")
        self.token = backend.token
        self.url = backend.url
        self._is_closed = False
        self._shipping = _Shipping(self, ClientBinding(backend))

    def setLevel(self, level: int | str) -> None:
        super().setLevel(validators.level("level", level))

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_closed:
            self._shipping.drop(record)
            return
        self._shipping.emit(record)

    def close(self) -> None:
        self._is_closed = True
        super().close()


class _Shipping(ClientHandler):
    """The handler that a jKoolHandler ships through."""

    def __init__(self, owner: jKoolHandler, binding: ClientBinding) -> None:
        super().__init__()
        self._owner = owner
        self._binding = binding

    def binding(self) -> ClientBinding:
        return self._binding

    def drop(self, record: logging.LogRecord) -> None:
        try:
            self._binding.pipeline().queue.drop("after_stop", record.levelno)
        except Exception:
            self.handleError(record)

    def prepare(self, record: logging.LogRecord) -> Any:
        event: Event = super().prepare(record)
        if self._owner.formatter is not None and FIELDS not in record.__dict__:
            event.message = self._formatted(record, event.message)
        return event

    def _formatted(self, record: logging.LogRecord, usual: str) -> str:
        try:
            return self._owner.format(record)
        except Exception:  # the formatter is the application's
            self.handleError(record)
            return usual
