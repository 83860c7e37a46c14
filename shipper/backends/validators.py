"""What a backend checks of its own settings, when it is made."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Value = TypeVar("Value")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

MOST_IN_FLIGHT = 256


def name(setting: str, value: object) -> str:
    """A backend's name becomes part of file names and metrics."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise ConfigurationError(setting, value, "1 to 64 letters, digits, - or _")


def secret(setting: str, value: object) -> str:
    """A key or token, in one line. The error does not show it."""
    if not isinstance(value, str):
        raise ConfigurationError(setting, type(value).__name__, "a text that is not empty")
    if not value.strip():
        raise ConfigurationError(setting, value, "a text that is not empty")
    if _CONTROL.search(value) or not _encodes(value):
        raise ConfigurationError(setting, "***", "a text in one line, without control characters")
    return value


def text(setting: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ConfigurationError(setting, value, "a text")


def text_or_none(setting: str, value: object) -> str | None:
    return None if value is None else text(setting, value)


def texts(setting: str, value: object) -> tuple[str, ...]:
    """Several texts; a single one is a mistake, it would become its letters."""
    allowed = 'texts, such as ("web", "eu")'
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set, frozenset)):
        raise ConfigurationError(setting, value, allowed)
    if not all(isinstance(each, str) for each in value):
        raise ConfigurationError(setting, value, allowed)
    return tuple(sorted(value) if isinstance(value, (set, frozenset)) else value)


def flag(setting: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigurationError(setting, value, "True or False")


def one_of(setting: str, value: Value, allowed: Sequence[Value]) -> Value:
    if any(value is each or (type(value) is type(each) and value == each) for each in allowed):
        return value
    raise ConfigurationError(setting, value, "one of " + ", ".join(repr(each) for each in allowed))


def level(setting: str, value: object) -> int:
    """A level as a number; names of levels are accepted in any case."""
    allowed = "a level: a number from 0, or a name such as INFO"
    number = logging.getLevelName(value.strip().upper()) if isinstance(value, str) else value
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        return number
    raise ConfigurationError(setting, value, allowed)


def in_flight(setting: str, value: object) -> int:
    """How many connections at the most: each may become a thread of the shipper process."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_IN_FLIGHT:
        return value
    raise ConfigurationError(setting, value, f"a whole number, 1 to {MOST_IN_FLIGHT}")


def timeout(setting: str, value: object) -> tuple[float, float]:
    """Seconds to connect, seconds until the whole answer is there."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(_is_positive(each) for each in value):
        return (value[0], value[1])
    raise ConfigurationError(setting, value, "two positive numbers: seconds to connect, seconds to answer")


def url(setting: str, value: object) -> str:
    """An absolute http or https URL. A password in it does not appear in the error."""
    allowed = "an address such as https://host/path"
    if not isinstance(value, str) or _CONTROL.search(value) or " " in value:
        raise ConfigurationError(setting, value, allowed)
    try:
        parts = split(value)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigurationError(setting, _shown(value), f"{allowed} ({exc})") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ConfigurationError(setting, _shown(value), f"{allowed}; the scheme is http or https")
    if not host or port == 0:
        raise ConfigurationError(setting, _shown(value), f"{allowed}; the host is missing or its port is wrong")
    return value


def split(value: str) -> SplitResult:
    """The parts of an address that `url` has let through."""
    from urllib.parse import urlsplit  # not before there is an address

    return urlsplit(value)


def readable_path(setting: str, value: object) -> str | None:
    """The whole path: it is used in a process that works in another folder."""
    if value is None:
        return None
    if isinstance(value, str) and os.path.exists(value):
        return os.path.abspath(value)
    raise ConfigurationError(setting, value, "the path of a file or folder with CA certificates")


def _is_positive(value: object) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 86_400
    )


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", value)
