"""shipper - ships every log record of a Python application to Trakerr and jKool, and loses none."""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .application.api import flush, running, start, status, stop
from .application.handler import QueueHandler
from .backends.jkool import JKool
from .backends.protocol import AppContext, Backend, HttpBackend
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
    "AppContext",
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
    """Load the classes of status reports when they are used first; give `Site` its new name."""
    if name == "Site":
        import warnings

        warnings.warn("shipper.Site is deprecated: use shipper.AppContext", DeprecationWarning, stacklevel=2)
        return AppContext
    if name not in ("BackendStatus", "Report", "Status"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import report

    return getattr(report, name)
