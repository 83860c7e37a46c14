"""shipper - ships every log record of a Python application to Trakerr and jKool, and loses none."""

import sys
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .application.api import flush, running, start, status, stop
from .application.capture.handler import QueueHandler
from .application.capture.surroundings import bind, bound, unbind
from .application.supervision import interpreter
from .backends.jkool import JKool
from .backends.protocol import AppContext, Backend, HttpBackend
from .backends.trakerr import Trakerr
from .config.limits import Batching, Retry, Spooling
from .errors import (
    ConfigurationError,
    DeliveryError,
    PartlyRejectedError,
    RejectedError,
    RetryableError,
    ShipperError,
    TooLargeError,
    UnauthorisedError,
    UndecodableError,
)
from .event.model import Event
from .event.redact import Redact

if TYPE_CHECKING:
    from .backends.console import Console
    from .backends.http_json.settings import Http
    from .backends.jetstream import JetStream
    from .backends.otlp.settings import Otlp
    from .report import BackendStatus, Report, Status

__all__ = [
    "AppContext",
    "Backend",
    "BackendStatus",
    "Batching",
    "ConfigurationError",
    "Console",
    "DeliveryError",
    "Event",
    "Http",
    "HttpBackend",
    "JKool",
    "JetStream",
    "Otlp",
    "PartlyRejectedError",
    "QueueHandler",
    "Redact",
    "RejectedError",
    "Report",
    "Retry",
    "RetryableError",
    "ShipperError",
    "Spooling",
    "Status",
    "TooLargeError",
    "Trakerr",
    "UnauthorisedError",
    "UndecodableError",
    "__version__",
    "bind",
    "bound",
    "flush",
    "run_if_shipper",
    "running",
    "start",
    "status",
    "stop",
    "unbind",
]


def run_if_shipper() -> None:
    """Let a frozen application (PyInstaller, cx_Freeze, Nuitka) be its own shipper process.

    Call it in the first lines of the main module. Where `start()` has started the program again to be the shipper
    process, it runs that process and does not return; otherwise it returns at once.
    """
    interpreter.allow_entry()
    if sys.argv[1:2] != [interpreter.ENTRY]:
        return
    from .process.frozen_entry import run  # in the shipper process only

    run(sys.argv[2:], fork=not interpreter.is_one_file())


_LOADED_WHEN_USED = {
    "BackendStatus": "report",
    "Console": "backends.console",
    "Http": "backends.http_json.settings",
    "JetStream": "backends.jetstream",
    "Otlp": "backends.otlp.settings",
    "Report": "report",
    "Status": "report",
}
"""Names that few applications need → the module that has them."""


def __getattr__(name: str) -> Any:
    """Load what few applications need when it is first used. `Site` is the former name of `AppContext`."""
    if name == "Site":
        import warnings

        warnings.warn("shipper.Site is deprecated: use shipper.AppContext", DeprecationWarning, stacklevel=2)
        return AppContext
    if name not in _LOADED_WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_LOADED_WHEN_USED[name]}", __name__), name)
