"""shipper - ships every log record of a Python application to Trakerr and jKool, and loses none."""

from ._version import __version__
from .app import flush, running, start, status, stop
from .backends import Backend, HttpBackend, Site
from .backends.jkool import JKool
from .backends.trakerr import Trakerr
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
from .event import Event
from .handler import QueueHandler
from .limits import Batching, Retry, Spooling
from .redact import Redact
from .status import BackendStatus, Report, Status

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
