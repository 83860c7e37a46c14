"""TrakerrHandler ships records with the defaults of its client; Trakerr.get_logger attaches one."""

from __future__ import annotations

import logging
from typing import Any

from ..application.capture.handler import LocklessHandler
from ..application.client import ClientBinding, ClientHandler
from .client import TrakerrClient


class TrakerrHandler(LocklessHandler):
    """Ships records to Trakerr, with the properties of its client as defaults.

    ``client``: a TrakerrClient, instead of the first three arguments. ``level``: a number or a name (WARNING). ``url``:
    as for TrakerrClient. A record goes to one key once, however many handlers get it. A logging call never raises. The
    formatter is not used: extras are sent as custom data, ``extra={"trakerr": {...}}`` sets fields of the AppEvent.

    Without a stage the events have "deployment", not the "development" of TrakerrClient and `Trakerr.get_logger`.

    Raises TypeError for arguments of a wrong type, ValueError for an unknown level, ConfigurationError as TrakerrClient
    does for a key or an address that can't be one.
    """

    def __init__(
        self,
        api_key: str | None = None,
        app_version: str = "1.0",
        context_deployment_stage: str = "deployment",
        client: TrakerrClient | None = None,
        level: int | str = logging.WARNING,
        *,
        url: str | None = None,
    ) -> None:
        super().__init__(level)
        if client is not None and not isinstance(client, TrakerrClient):
            raise TypeError(f"client is expected of class TrakerrClient, not {type(client).__name__}.")
        if client is None:
            # TrakerrClient rejects None as a key.
            client = TrakerrClient(api_key, app_version, context_deployment_stage, url=url)  # type: ignore[arg-type]
        self.trakerr_client = client
        self._shipping = _Shipping(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._shipping.emit(record)


class _Shipping(ClientHandler):
    """The handler that a TrakerrHandler ships through: its client's binding and defaults."""

    def __init__(self, owner: TrakerrHandler) -> None:
        super().__init__()
        self._owner = owner

    def binding(self) -> ClientBinding:
        return self._owner.trakerr_client.binding()

    def prepare(self, record: logging.LogRecord) -> Any:
        event = super().prepare(record)
        event.data = {**self._owner.trakerr_client.record_defaults(), **event.data}
        return event


class _OfLogger(TrakerrHandler):
    """A handler that `get_logger` has attached."""


class Trakerr:
    """Makes loggers whose records go to Trakerr."""

    @staticmethod
    def get_logger(
        api_key: str,
        app_version: str,
        name: str,
        context_development_stage: str = "development",
        *,
        url: str | None = None,
    ) -> logging.Logger:
        """The logger of that name, with a TrakerrHandler for WARNING and above.

        When called again for the same name, the last call's key, version, stage and url are used from then on. Raises
        TypeError and ConfigurationError as TrakerrClient does.
        """
        logger = logging.getLogger(str(name))  # as in trakerr-python: None is the name "None", not the root logger
        client = TrakerrClient(api_key, app_version, context_development_stage, url=url)
        attached = next((each for each in logger.handlers if isinstance(each, _OfLogger)), None)
        if attached is not None:
            attached.trakerr_client = client
            return logger
        logger.addHandler(_OfLogger(client=client))
        return logger
