"""jKoolHandler ships records to jKool."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

from ..application.client import ClientBinding, ClientHandler
from ..application.handler import LocklessHandler
from ..backends import validators
from ..backends.jkool import JKool
from ..config.settings import identity
from ..event.model import Event
from .scope import FIELDS

URL = "SHIPPER_JKOOL_URL"
"""The environment variable that says where the service is, when nothing else does."""


class jKoolHandler(LocklessHandler):
    """Ships records to jKool, by default from INFO on. Making one starts the shipper process when nobody has.

    ``token`` is the access token, ``url`` the service's address: by default that in ``SHIPPER_JKOOL_URL``, else
    https://data.jkoolcloud.com. ``level`` is a number or a name. ``accessToken`` and ``urlStr`` are the old names of
    the first two. Events go out one after the other, in the order of logging; `shipper.start()` is for those who want
    more of them under way. A record goes to one token once, however many handlers see it. With a formatter, what it
    makes of a record is the message; `logEvent`'s stays as given.

    Nothing that is logged raises, waits or prints. A closed handler ships nothing more: `shipper status` counts what
    still comes, as ``after_stop``. A server that is down or a token that is refused is no error here: events wait.

    Raises ConfigurationError for a token, an address or a level that can't be one.
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
        url = url or urlStr or os.environ.get(URL) or JKool.url
        # None is no token, and JKool says so. The level is ours to look at, and it may change.
        backend = JKool(token, url, level=logging.NOTSET, max_in_flight=1)  # type: ignore[arg-type]
        # The name tells which token it is: another process of the app may have a handler with another one.
        backend = dataclasses.replace(backend, name=f"jkool-{identity(backend)}")
        self.token = backend.token
        self.url = backend.url
        self._closed_for_good = False
        self._shipping = _Shipping(self, ClientBinding(backend))

    def setLevel(self, level: int | str) -> None:
        super().setLevel(validators.level("level", level))

    def emit(self, record: logging.LogRecord) -> None:
        if self._closed_for_good:
            self._shipping.drop(record)
            return
        self._shipping.emit(record)

    def close(self) -> None:
        self._closed_for_good = True
        super().close()


class _Shipping(ClientHandler):
    """What a jKoolHandler ships with."""

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
