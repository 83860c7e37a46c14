"""The exceptions. Each class is one decision for the code that catches it.

ShipperError
├── ConfigurationError      a setting is wrong
├── UndecodableError        bytes that are not an event of a known version
└── DeliveryError           why an event was not delivered
    ├── RetryableError      send it again later
    │   └── UnauthorisedError   send it again much later: key or address must be corrected first
    ├── TooLargeError       send fewer events at once, or a shorter event
    ├── RejectedError       never send it again: it becomes a dead letter
    └── PartlyRejectedError never send the request again: count the events that it refused as dropped
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 200  # characters of a value in an error


class ShipperError(Exception):
    """The base of all exceptions that shipper raises on purpose."""


class ConfigurationError(ShipperError, ValueError):
    """A setting is wrong; raised before anything is started.

    ``setting``: its name. ``value``: what was given. ``allowed``: what is allowed, as the end of a sentence.
    ``variable``: the environment variable that the value came from, if any.
    """

    variable: str | None = None

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        super().__init__(setting, value, allowed)
        self.setting = setting
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.variable or self.setting}={_repr.repr(self.value)}: {self.allowed}"


class UndecodableError(ShipperError, ValueError):
    """Bytes with a valid checksum that are not an event, or an event of a version that this release can't read."""


class DeliveryError(ShipperError):
    """Why an event was not delivered. ``status`` and ``body`` are those of the response, if there was one."""

    def __init__(self, reason: str, *, status: int | None = None, body: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.body = body


class RetryableError(DeliveryError):
    """The event can be sent again later, after ``retry_after`` seconds if the server asked for a pause."""

    def __init__(
        self, reason: str, *, status: int | None = None, body: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(reason, status=status, body=body)
        self.retry_after = retry_after


class UnauthorisedError(RetryableError):
    """Credentials or address are refused. Nothing is dropped; the setting has to be corrected."""


class TooLargeError(DeliveryError):
    """The request was too large: a batch is halved, a single event is shortened once."""


class RejectedError(DeliveryError):
    """The service refuses this event for good."""


class PartlyRejectedError(DeliveryError):
    """The service took a request, but not ``rejected`` of its events, and does not say which.

    No event of the request is sent again; ``rejected`` of them are counted as dropped, ``refused_by_receiver``.
    """

    def __init__(self, reason: str, rejected: int, *, status: int | None = None, body: str = "") -> None:
        super().__init__(reason, status=status, body=body)
        self.rejected = rejected


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the most similar of the known names, "" when none is similar. Case is ignored."""
    import difflib  # only where a name is wrong

    lowered = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), sorted(lowered), n=1, cutoff=0.7)
    return f"; did you mean {lowered[found[0]]}?" if found else ""


def suggest_keywords(call: C) -> C:
    """Decorate a function or a class: its TypeError for an unknown keyword names the most similar one."""
    function: Any = call.__init__ if isinstance(call, type) else call  # type: ignore[misc]
    code = function.__code__
    known = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self"}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in known:
                suggestion = nearest(name, known)
                raise TypeError(f"{call.__name__}() got an unexpected keyword argument {name!r}{suggestion}")
        return function(*args, **kwargs)

    if not isinstance(call, type):
        return checked  # type: ignore[return-value]
    call.__init__ = checked  # type: ignore[misc]
    return call
