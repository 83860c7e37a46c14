"""What can go wrong, as decisions for whoever catches it.

ShipperError
├── ConfigurationError      a setting is wrong: it names the setting, the value and what is allowed
├── UndecodableError        bytes that are no event of a version we know
└── DeliveryError           what a backend answers for an event that it did not take
    ├── RetryableError      send it again later
    │   └── UnauthorisedError   nothing gets through until somebody mends key or address
    ├── TooLargeError       send less at once, or a shorter event
    └── RejectedError       never send it again: it becomes a dead letter
"""

from __future__ import annotations

import reprlib

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 200  # characters of a value that an error shows


class ShipperError(Exception):
    """The root of everything that shipper raises on purpose."""


class ConfigurationError(ShipperError, ValueError):
    """A setting is wrong; said before anything is started.

    ``setting`` is its name, ``value`` what was given, ``allowed`` what would have been right.
    """

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        super().__init__(setting, value, allowed)
        self.setting = setting
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.setting}={_repr.repr(self.value)}: {self.allowed}"


class UndecodableError(ShipperError, ValueError):
    """Bytes with a valid checksum that are no event, or one of a version that this release can't read."""


class DeliveryError(ShipperError):
    """Why an event was not delivered. ``status`` and ``body`` are the answer's, where there was one."""

    def __init__(self, reason: str, *, status: int | None = None, body: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.body = body


class RetryableError(DeliveryError):
    """Try again later; not before ``retry_after`` seconds when the server named them."""

    def __init__(
        self, reason: str, *, status: int | None = None, body: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(reason, status=status, body=body)
        self.retry_after = retry_after


class UnauthorisedError(RetryableError):
    """Our credentials, or the address, are refused. Nothing is thrown away: a person has to mend the setting."""


class TooLargeError(DeliveryError):
    """The request was too large: a batch is halved, a single event cut once."""


class RejectedError(DeliveryError):
    """The service does not want this event, now or later."""
