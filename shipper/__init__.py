"""shipper - ships every log record of a Python application to Trakerr and jKool, and loses none."""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .application.api import flush, running, start, status, stop
from .application.handler import QueueHandler
from .backends.jkool import JKool
from .backends.protocol import Backend, HttpBackend, Site
from .backends.trakerr import Trakerr
from .config.limits import Batching, Retry, Spooling
from .errors import (
    ConfigurationError,
    DeliveryError,
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
    from .report import BackendStatus, Report, Status

__all__ = [
    "Backend",
    "BackendStatus",
    "Batching",
    "ConfigurationError",
    "DeliveryError",
    "Event",
    "HttpBackend",
    "JKool",
    "QueueHandler",
    "Redact",
    "RejectedError",
    "Report",
    "Retry",
    "RetryableError",
    "ShipperError",
    "Site",
    "Spooling",
    "Status",
    "TooLargeError",
    "Trakerr",
    "UnauthorisedError",
    "UndecodableError",
    "__version__",
    "flush",
    "running",
    "start",
    "status",
    "stop",
]


def __getattr__(name: str) -> Any:
    """What only those need who ask how an app does is loaded when they ask."""
    if name not in ("BackendStatus", "Report", "Status"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import report

    return getattr(report, name)
