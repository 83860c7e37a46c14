"""Groups of limits: frozen, checked when they are made, in seconds and bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._support.lazy_pattern import LazyPattern
from ..errors import ConfigurationError, suggest_keywords

if TYPE_CHECKING:
    Size = Any  # given as a number of bytes or as text; always a number afterwards
else:
    Size = int | str

OVERFLOW_SIZE = 8 * 1024 * 1024  # bytes that may wait in one process while the pipe is full


def check_whole(setting: str, value: object, *, least: int) -> None:
    """Raise ConfigurationError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(setting, value, f"must be a whole number of at least {least}")


_SIZE = LazyPattern(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(I?)(B?)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def size(setting: str, value: object, *, least: int) -> int:
    """Return a number of bytes: a whole number, or text such as "512 MiB", "1GB" or "64k".

    KB, MB, GB and TB are powers of 1000; K, KiB and so on are powers of 1024. Raises ConfigurationError.
    """
    number = _bytes(value) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        allowed = f'must be a whole number of bytes, or a size such as "1 GiB", of at least {least}'
        raise ConfigurationError(setting, value, allowed)
    return number


def _bytes(text: str) -> int | None:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    is_decimal = found[2] and found[4] and not found[3]
    unit: int = (1000 if is_decimal else 1024) ** _POWERS[found[2].upper()]
    return round(float(found[1]) * unit)


_TIME = LazyPattern(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")
_UNIT_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_AMBIGUOUS = LazyPattern(r"[0-9.]+\s*M")  # minutes or megabytes


def seconds_in(text: str) -> float | None:
    """The seconds of a text such as "90s", "10m", "10 min", "2h" or "3d"; None for any other text."""
    found = _TIME.fullmatch(text.strip())
    return float(found[1]) * _UNIT_SECONDS[found[2]] if found is not None else None


LONGEST = 1e9  # seconds, or 31 years; waiting for 300 years would be an OverflowError


def check_seconds(setting: str, value: object) -> None:
    """Raise ConfigurationError unless ``value`` is a number of seconds from 0 to `LONGEST`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= LONGEST:  # type: ignore[operator]
        raise ConfigurationError(setting, value, f"must be a number of seconds, from 0 to {LONGEST:.0f}")


@suggest_keywords
@dataclass(frozen=True)
class Batching:
    """When a batch is sent: as soon as it has one of these.

    ``max_events`` events (500), ``max_bytes`` bytes of events (1,000,000; or a text, "1 MiB"), or an age of ``max_age``
    seconds since its oldest event was read (1.0). Backends that take one event per request do not wait for the age.

    ``processes``: while several backends work off long backlogs, each may have a process of its own that encodes its
    batches (True). Each takes up to 25 MiB, and more with a larger ``max_bytes``; it ends when it has had nothing to do
    for 5 seconds.

    Raises ConfigurationError for events and bytes that are no whole number of at least 1, an age that is no number of
    seconds, and ``processes`` that is no bool.
    """

    max_events: int = 500
    max_bytes: Size = 1_000_000
    max_age: float = 1.0
    processes: bool = True

    def __post_init__(self) -> None:
        check_whole("batching.max_events", self.max_events, least=1)
        object.__setattr__(self, "max_bytes", size("batching.max_bytes", self.max_bytes, least=1))
        check_seconds("batching.max_age", self.max_age)
        if not isinstance(self.processes, bool):
            raise ConfigurationError("batching.processes", self.processes, "must be True or False")


@suggest_keywords
@dataclass(frozen=True)
class Retry:
    """How long to wait before sending again. There is no last attempt: an event waits in the journal.

    The wait after the n-th failure in a row is random between 0 and ``initial`` (0.5 s) × 2ⁿ⁻¹, at most ``maximum``
    (60 s). A server's ``Retry-After`` wins when it is longer, up to ``max_retry_after`` (300 s). While credentials are
    refused the wait is ``unauthorised`` (60 s), which is also the longest wait while every event is refused. An event
    that keeps failing while others are delivered becomes a dead letter after ``poison_after`` seconds (600).

    Raises ConfigurationError for a value that is no number of seconds, and for an ``initial`` above ``maximum``.
    """

    initial: float = 0.5
    maximum: float = 60.0
    max_retry_after: float = 300.0
    unauthorised: float = 60.0
    poison_after: float = 600.0

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "max_retry_after", "unauthorised", "poison_after"):
            check_seconds(f"retry.{name}", getattr(self, name))
        if self.maximum < self.initial and self.maximum == Retry.maximum:
            allowed = f"must not be more than retry.maximum ({self.maximum:g})"
            raise ConfigurationError("retry.initial", self.initial, allowed)
        if self.maximum < self.initial:
            allowed = f"must not be less than retry.initial ({self.initial:g})"
            raise ConfigurationError("retry.maximum", self.maximum, allowed)


@suggest_keywords
@dataclass(frozen=True)
class Spooling:
    """What the spool may hold on disk. A size is a number of bytes, or a text such as "1 GiB".

    ``quota``: size of the journal (512 MiB), at least two segments. ``when_full``: give up the "oldest" events at the
    quota (the default), or refuse the "newest". ``segment``: size of one journal file (16 MiB), at least 4096 bytes.
    ``fsync``: seconds between two fsyncs, 0 for none (0): the page cache survives every crash but the machine's.
    ``dead``: size of dead letters per backend (64 MiB), at least 4096 bytes; beyond it the older half is removed.
    ``keep``: how much of the journal is kept once it is delivered, a size of at least a segment or a time ("10m"), 0
    for none (0); it does not count towards the quota.

    Raises ConfigurationError for a value that is none of these.
    """

    quota: Size = 512 * 1024 * 1024
    when_full: str = "oldest"
    segment: Size = 16 * 1024 * 1024
    fsync: float = 0.0
    dead: Size = 64 * 1024 * 1024
    keep: Size = 0

    def __post_init__(self) -> None:
        for name, least in (("segment", 4096), ("quota", 0), ("dead", 4096)):
            object.__setattr__(self, name, size(f"spooling.{name}", getattr(self, name), least=least))
        if self.quota < 2 * self.segment:
            self._refuse_quota()
        check_seconds("spooling.fsync", self.fsync)
        given = self.when_full.lower() if isinstance(self.when_full, str) else None
        if given not in ("oldest", "newest"):
            raise ConfigurationError("spooling.when_full", self.when_full, 'must be "oldest" or "newest"')
        object.__setattr__(self, "when_full", given)
        if self.keep_seconds is None:
            object.__setattr__(self, "keep", self._checked_keep())

    @property
    def keep_seconds(self) -> float | None:
        """How long delivered segments are kept; None when `keep` is a size."""
        found = seconds_in(self.keep) if isinstance(self.keep, str) else None
        return found if found is None or found <= LONGEST else LONGEST

    def _checked_keep(self) -> int:
        """The bytes to keep. ConfigurationError for anything that is neither a size nor a time."""
        allowed = f'must be 0, a time ("10m", "2h", "3d") or a size of at least spooling.segment ({self.segment})'
        if isinstance(self.keep, str) and _AMBIGUOUS.fullmatch(self.keep.strip()):
            raise ConfigurationError("spooling.keep", self.keep, 'must be a time ("10m") or a size ("10 MiB")')
        number = _bytes(self.keep) if isinstance(self.keep, str) else self.keep
        if not isinstance(number, int) or isinstance(number, bool) or number < 0 or 0 < number < self.segment:
            raise ConfigurationError("spooling.keep", self.keep, allowed)
        return number

    def _refuse_quota(self) -> None:
        if self.quota == Spooling.quota:  # the segment was set, and the quota was not
            allowed = f"must be at most half of spooling.quota ({self.quota})"
            raise ConfigurationError("spooling.segment", self.segment, allowed)
        allowed = f"must be at least twice spooling.segment ({self.segment})"
        raise ConfigurationError("spooling.quota", self.quota, allowed)
