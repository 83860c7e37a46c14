"""The Trakerr client: what trakerr-python's README promises, delivered by the shipper process.

An application moves over by changing its import lines. Everything but `TrakerrClient.send_event` goes through the same
queue, journal and process as every log record.
"""

from .client import TrakerrClient
from .errors import ApiException
from .handler import Trakerr, TrakerrHandler
from .models import (
    AppEvent,
    CustomData,
    CustomDoubleData,
    CustomStringData,
    InnerStackTrace,
    Stacktrace,
    StackTraceLine,
    StackTraceLines,
)
from .scope import context

__all__ = [
    "ApiException",
    "AppEvent",
    "CustomData",
    "CustomDoubleData",
    "CustomStringData",
    "InnerStackTrace",
    "StackTraceLine",
    "StackTraceLines",
    "Stacktrace",
    "Trakerr",
    "TrakerrClient",
    "TrakerrHandler",
    "context",
]
