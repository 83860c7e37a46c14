"""Checks of a backend's settings. Each returns the value that is used, or raises ConfigurationError."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

Value = TypeVar("Value")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACEHOLDER = re.compile(r"<[^<>]*>|\$\w+|\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*\}\}|\{\w*\}|%\w+%|%\(\w+\)s")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

MOST_IN_FLIGHT = 256
LONGEST_TIMEOUT = 86_400.0  # seconds


def name(setting: str, value: object) -> str:
    """A backend's name: it becomes part of file names and metrics."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise ConfigurationError(setting, value, "must be 1 to 64 letters, digits, dashes or underscores")


def secret(setting: str, value: object) -> str:
    """A key or token in one line. The error does not show it."""
    if not isinstance(value, str):
        raise ConfigurationError(setting, type(value).__name__, "must be a text that is not empty")
    if not value.strip():
        raise ConfigurationError(setting, value, "must be a text that is not empty")
    if _CONTROL.search(value) or not _is_utf8(value):
        raise ConfigurationError(setting, "***", "must be a text in one line, without control characters")
    if _PLACEHOLDER.fullmatch(value.strip()):
        raise ConfigurationError(setting, value, "must be the real value in place of this placeholder")
    return value


def text(setting: str, value: object) -> str:
    """A text."""
    if isinstance(value, str):
        return value
    raise ConfigurationError(setting, value, "must be a text")


def text_or_none(setting: str, value: object) -> str | None:
    """A text, or None."""
    return None if value is None else text(setting, value)


def texts(setting: str, value: object) -> tuple[str, ...]:
    """Several texts. A single text is refused: it would be split into its characters."""
    allowed = 'must be several texts, such as ("web", "eu")'
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, set, frozenset)):
        raise ConfigurationError(setting, value, allowed)
    if not all(isinstance(each, str) for each in value):
        raise ConfigurationError(setting, value, allowed)
    return tuple(sorted(value) if isinstance(value, (set, frozenset)) else value)


def pairs(setting: str, value: object) -> tuple[tuple[str, str], ...]:
    """Names and texts, from a mapping, a tuple of pairs, or ``"name=value,name=value"``, percent-encoded (W3C Baggage).

    The error shows no value: it may be a secret.
    """
    if isinstance(value, str):
        return tuple(_pair(setting, item) for item in value.split(",") if item.strip())
    found = tuple(value.items()) if isinstance(value, Mapping) else value
    allowed = 'a mapping of texts, or "name=value,name=value"'
    if not isinstance(found, tuple):
        raise ConfigurationError(setting, type(value).__name__, allowed)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
            raise ConfigurationError(setting, "***", allowed)
    return found


def _pair(setting: str, item: str) -> tuple[str, str]:
    from urllib.parse import unquote  # imported here: most applications set no such text

    name, equals, value = item.partition("=")
    if not equals or not name.strip():
        raise ConfigurationError(setting, "***", 'pairs such as "name=value,name=value"')
    return name.strip(), unquote(value.strip())


def flag(setting: str, value: object) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    raise ConfigurationError(setting, value, "must be True or False")


def one_of(setting: str, value: Value, allowed: Sequence[Value]) -> Value:
    """One of the allowed values; texts in any case."""
    for each in allowed:
        if value is each or (type(value) is type(each) and _lowered(value) == _lowered(each)):
            return each
    raise ConfigurationError(setting, value, "must be one of " + ", ".join(repr(each) for each in allowed))


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def level(setting: str, value: object) -> int:
    """A level as a number; names of levels are accepted in any case."""
    number = logging.getLevelName(value.strip().upper()) if isinstance(value, str) else value
    if isinstance(number, int) and not isinstance(number, bool) and number >= 0:
        return number
    raise ConfigurationError(setting, value, "must be a logging level: a number from 0, or a name such as INFO")


def in_flight(setting: str, value: object) -> int:
    """The most concurrent requests; each may need a thread of the shipper process."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_IN_FLIGHT:
        return value
    raise ConfigurationError(setting, value, f"must be a whole number from 1 to {MOST_IN_FLIGHT}")


def timeout(setting: str, value: object) -> tuple[float, float]:
    """Seconds to connect, seconds until the whole response has been read."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(_is_positive(each) for each in value):
        return (value[0], value[1])
    raise ConfigurationError(setting, value, "must be two positive numbers: seconds to connect, seconds to respond")


def seconds(setting: str, value: object) -> float:
    """A number of seconds; 0 is allowed."""
    if _is_positive(value) or (value == 0 and not isinstance(value, bool)):
        return value  # type: ignore[return-value]
    raise ConfigurationError(setting, value, f"must be a number of seconds, from 0 to {LONGEST_TIMEOUT:.0f}")


def url(setting: str, value: object) -> str:
    """An absolute http or https URL. The error does not show a password in it."""
    allowed = "must be an address such as https://host/path"
    if not isinstance(value, str) or _CONTROL.search(value) or " " in value:
        raise ConfigurationError(setting, value, allowed)
    try:
        parts = split(value)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigurationError(setting, without_password(value), f"{allowed} ({exc})") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ConfigurationError(setting, without_password(value), f"{allowed}; the scheme is http or https")
    if re.search(r"[<>{}$%\\^`|\"]", host or ""):
        raise ConfigurationError(setting, without_password(value), f"{allowed}; the host is a placeholder")
    if not host or port == 0:
        reason = "the host is missing or its port is wrong"
        raise ConfigurationError(setting, without_password(value), f"{allowed}; {reason}")
    return value


def split(value: str) -> SplitResult:
    """The parts of a checked URL."""
    from urllib.parse import urlsplit  # a large import that only backends with a URL need

    return urlsplit(value)


def readable_path(setting: str, value: object) -> str | None:
    """The absolute path of an existing file or folder: the shipper process has another working directory."""
    if value is None:
        return None
    if isinstance(value, str) and os.path.exists(value):
        return os.path.abspath(value)
    raise ConfigurationError(setting, value, "must be the path of a file or folder with CA certificates")


def client_cert(setting: str, value: object) -> tuple[str, ...] | None:
    """The absolute paths of a certificate and its key, or of one file with both."""
    if value is None:
        return None
    paths = [value] if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(paths, (tuple, list)) or len(paths) not in (1, 2):
        raise ConfigurationError(setting, value, "must be the files of a certificate and of its key")
    return tuple(_readable_file(setting, path) for path in paths)


def _readable_file(setting: str, value: object) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not os.path.isfile(path):
        raise ConfigurationError(setting, value, "must be a file that exists")
    if not os.access(path, os.R_OK):
        raise ConfigurationError(setting, value, "must be a file that this user can read")
    return os.path.abspath(path)


def without_password(value: str) -> str:
    """A URL whose user and password are masked."""
    return re.sub(r"//[^/@]*@", "//***@", value)


def _is_positive(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 < value <= LONGEST_TIMEOUT  # type: ignore[arg-type,operator]


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
