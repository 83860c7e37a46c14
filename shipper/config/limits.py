"""Groups of limits: frozen, checked when they are made, in seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigurationError

OVERFLOW_SIZE = 8 * 1024 * 1024  # bytes that may wait in one process while the pipe is full


def check_whole(setting: str, value: object, *, least: int) -> None:
    """Raise ConfigurationError unless ``value`` is a whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(setting, value, f"must be a whole number of at least {least}")


LONGEST = 1e9  # seconds, or 31 years; waiting for 300 years would be an OverflowError


def check_seconds(setting: str, value: object) -> None:
    """Raise ConfigurationError unless ``value`` is a number of seconds from 0 to `LONGEST`."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= LONGEST:  # type: ignore[operator]
        raise ConfigurationError(setting, value, f"must be a number of seconds, from 0 to {LONGEST:.0f}")


@dataclass(frozen=True)
class Batching:
    """When a batch is sent: as soon as it has one of these.

    ``max_events`` events (500), ``max_bytes`` bytes of events (1,000,000), or an age of ``max_age`` seconds since its
    oldest event was read (1.0). Backends that take one event per request do not wait for the age.
    """

    max_events: int = 500
    max_bytes: int = 1_000_000
    max_age: float = 1.0

    def __post_init__(self) -> None:
        check_whole("batching.max_events", self.max_events, least=1)
        check_whole("batching.max_bytes", self.max_bytes, least=1)
        check_seconds("batching.max_age", self.max_age)


@dataclass(frozen=True)
class Retry:
    """How long to wait before sending again. There is no last attempt: an event waits in the journal.

    The wait before attempt n is random between 0 and ``initial`` (0.5 s) × 2ⁿ, at most ``maximum`` (60 s). A server's
    ``Retry-After`` wins when it is longer, up to ``max_retry_after`` (300 s). While credentials are refused the wait is
    ``unauthorised`` (60 s). An event that keeps failing while others are delivered becomes a dead letter after
    ``poison_after`` seconds (600).
    """

    initial: float = 0.5
    maximum: float = 60.0
    max_retry_after: float = 300.0
    unauthorised: float = 60.0
    poison_after: float = 600.0

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "max_retry_after", "unauthorised", "poison_after"):
            check_seconds(f"retry.{name}", getattr(self, name))
        if self.maximum < self.initial:
            allowed = f"must not be less than retry.initial ({self.initial:g})"
            raise ConfigurationError("retry.maximum", self.maximum, allowed)


@dataclass(frozen=True)
class Spooling:
    """What the spool may hold on disk.

    ``quota``: bytes of the journal (512 MiB). ``when_full``: give up the "oldest" events at the quota, or refuse the
    "newest". ``segment``: bytes of one journal file (16 MiB). ``fsync``: seconds between two fsyncs, 0 for none: the
    page cache survives every crash but the machine's. ``dead``: bytes of dead letters per backend (64 MiB); beyond them
    the older half is removed.
    """

    quota: int = 512 * 1024 * 1024
    when_full: str = "oldest"
    segment: int = 16 * 1024 * 1024
    fsync: float = 0.0
    dead: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        check_whole("spooling.segment", self.segment, least=4096)
        check_whole("spooling.quota", self.quota, least=0)
        if self.quota < 2 * self.segment:
            allowed = f"must be at least twice spooling.segment ({self.segment})"
            raise ConfigurationError("spooling.quota", self.quota, allowed)
        check_seconds("spooling.fsync", self.fsync)
        check_whole("spooling.dead", self.dead, least=4096)
        if self.when_full not in ("oldest", "newest"):
            raise ConfigurationError("spooling.when_full", self.when_full, 'must be "oldest" or "newest"')
