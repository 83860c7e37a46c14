"""The numbers that bound each part, in groups that travel together: frozen, checked at birth, in seconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigurationError


def check_number(setting: str, value: object, *, least: float, whole: bool = False) -> None:
    """ConfigurationError unless `value` is a number (a whole one) of at least `least`."""
    kinds: tuple[type, ...] = (int,) if whole else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not least <= value < float("inf"):  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(setting, value, f"must be {kind} of at least {least}")


@dataclass(frozen=True)
class Batching:
    """When a batch is due: whichever comes first.

    ``max_events`` events (500), ``max_bytes`` bytes of events (1,000,000), or ``max_age`` seconds since its oldest
    event was read (1.0). Backends that take one event a request don't wait for age.
    """

    max_events: int = 500
    max_bytes: int = 1_000_000
    max_age: float = 1.0

    def __post_init__(self) -> None:
        check_number("batching.max_events", self.max_events, least=1, whole=True)
        check_number("batching.max_bytes", self.max_bytes, least=1, whole=True)
        check_number("batching.max_age", self.max_age, least=0)


@dataclass(frozen=True)
class Retry:
    """How long to wait before sending again. There is no last attempt: an event waits in the journal.

    The wait is drawn between 0 and ``initial`` (0.5 s) × 2ⁿ, at most ``maximum`` (60 s). A server's ``Retry-After``
    wins when it is longer, up to ``max_retry_after`` (300 s). While credentials are refused: ``unauthorised`` (60 s).
    An event that alone keeps failing while others pass becomes a dead letter after ``poison_after`` seconds (600).
    """

    initial: float = 0.5
    maximum: float = 60.0
    max_retry_after: float = 300.0
    unauthorised: float = 60.0
    poison_after: float = 600.0

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "max_retry_after", "unauthorised", "poison_after"):
            check_number(f"retry.{name}", getattr(self, name), least=0)
        if self.maximum < self.initial:
            allowed = f"must not be less than retry.initial ({self.initial:g})"
            raise ConfigurationError("retry.maximum", self.maximum, allowed)


@dataclass(frozen=True)
class Spooling:
    """What the spool may hold on disk.

    ``quota`` bytes of journal (512 MiB); when it is full, ``when_full`` drops the "oldest" events, or refuses the
    "newest". ``segment`` bytes a file (16 MiB). ``fsync`` seconds between two fsyncs, 0 for none: the page cache
    survives every crash but the machine's. ``dead`` bytes of dead letters per backend (64 MiB), then the older half
    goes.
    """

    quota: int = 512 * 1024 * 1024
    when_full: str = "oldest"
    segment: int = 16 * 1024 * 1024
    fsync: float = 0.0
    dead: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        check_number("spooling.segment", self.segment, least=4096, whole=True)
        check_number("spooling.quota", self.quota, least=2 * self.segment, whole=True)
        check_number("spooling.fsync", self.fsync, least=0)
        check_number("spooling.dead", self.dead, least=4096, whole=True)
        if self.when_full not in ("oldest", "newest"):
            raise ConfigurationError("spooling.when_full", self.when_full, 'must be "oldest" or "newest"')
