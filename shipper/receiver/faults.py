"""Faults that the receiver applies to requests: a list, used up in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import ConfigurationError

SERVICES = ("trakerr", "jkool", "otlp")


@dataclass(slots=True)
class Fault:
    """What happens to a request instead of the ordinary answer.

    It applies to the next ``count`` requests (1 unless ``seconds`` is given), or to all requests of the next
    ``seconds``, which begin when the faults before it are used up; with both, until the first of them ends. With
    ``service`` None it applies to all services, and they share the count. ``delay`` alone answers late and correctly.
    With ``accept`` the event is kept although the request fails.
    """

    service: str | None = None  # "trakerr", "jkool", "otlp", or None for all
    status: int | None = None  # answered with this status
    retry_after: str | None = None  # the Retry-After header: seconds or an HTTP date
    delay: float = 0.0  # seconds before anything else happens
    hang: bool = False  # never answered; the connection stays open until the sender leaves
    reset: bool = False  # the connection is reset (RST)
    half: bool = False  # a 200 whose body is cut in the middle
    accept: bool = False  # the events are kept before the fault happens
    count: int | None = None
    seconds: float | None = None
    _until: float | None = field(default=None, repr=False)
    _begun: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        self.retry_after = None if self.retry_after is None else str(self.retry_after)
        if self.count is None and self.seconds is None:
            self.count = 1

    @property
    def name(self) -> str:
        """The fault's name in the log of requests."""
        if self.status is not None:
            return str(self.status)
        return "hang" if self.hang else "reset" if self.reset else "half an answer" if self.half else "late"

    def begin(self, now: float) -> None:
        if self._begun:
            return
        self._begun = True
        if self.seconds is not None:
            self._until = now + self.seconds

    def over(self, now: float) -> bool:
        if self.count is not None and self.count <= 0:
            return True
        return self._until is not None and now >= self._until

    def use(self) -> None:
        if self.count is not None:
            self.count -= 1

    def as_json(self, now: float) -> dict[str, Any]:
        """The fields that were set, with what is left of ``count`` and ``seconds``; ``begun`` once the time runs."""
        given = {name: value for name, value in asdict(self).items() if value and not name.startswith("_")}
        if self._until is not None:
            given["seconds"] = round(max(self._until - now, 0.0), 3)
            given["begun"] = True
        return given


def fault_from_json(given: object) -> Fault:
    """A fault from one object of the control endpoint. Raises ConfigurationError for anything else."""
    if not isinstance(given, dict):
        raise ConfigurationError("fault", given, "an object is needed")
    known = {each.name for each in fields(Fault) if not each.name.startswith("_")}
    for name in given:
        if name not in known:
            raise ConfigurationError("fault", name, f"one of {', '.join(sorted(known))}")
    return Fault(**given)


class Faults:
    """The list of faults. Any thread may add to it while requests use it up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._given: list[Fault] = []
        self._waiting: dict[str, deque[Fault]] = {service: deque() for service in SERVICES}

    def add(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._given = self._unused()
            for fault in faults:
                self._given.append(fault)
                for service in SERVICES if fault.service is None else (fault.service,):
                    self._waiting[service].append(fault)
            for service in SERVICES:
                self._head(service)

    def take(self, service: str) -> Fault | None:
        """The fault for a request of ``service``, counted as used once; None without one."""
        with self._lock:
            fault = self._head(service)
            if fault is not None:
                fault.use()
            return fault

    def clear(self) -> None:
        with self._lock:
            self._given.clear()
            for waiting in self._waiting.values():
                waiting.clear()

    def left(self) -> list[dict[str, Any]]:
        """The faults that are not used up yet, in the order in which they were added."""
        with self._lock:
            for service in SERVICES:
                self._head(service)
            return [fault.as_json(self._clock()) for fault in self._unused()]

    def _unused(self) -> list[Fault]:
        now = self._clock()
        return [fault for fault in self._given if not fault.over(now)]

    def _head(self, service: str) -> Fault | None:
        waiting, now = self._waiting[service], self._clock()
        while waiting:
            waiting[0].begin(now)
            if not waiting[0].over(now):
                return waiting[0]
            waiting.popleft()
        return None


def _check(fault: Fault) -> None:
    if fault.service is not None and fault.service not in SERVICES:
        raise ConfigurationError("service", fault.service, f"one of {', '.join(SERVICES)}, or null for all")
    if fault.status is not None and (not _is_int(fault.status) or not 200 <= fault.status <= 599):
        raise ConfigurationError("status", fault.status, "a whole number from 200 to 599")
    _check_retry_after(fault.retry_after)
    for name in ("delay", "seconds"):
        value = getattr(fault, name)
        if value is not None and not _is_seconds(value):
            raise ConfigurationError(name, value, "seconds, from 0 to 86400")
    for name in ("hang", "reset", "half", "accept"):
        if not isinstance(getattr(fault, name), bool):
            raise ConfigurationError(name, getattr(fault, name), "true or false")
    if fault.count is not None and (not _is_int(fault.count) or fault.count < 1):
        raise ConfigurationError("count", fault.count, "a whole number from 1")
    kinds = [fault.status is not None, fault.hang, fault.reset, fault.half]
    if sum(kinds) > 1:
        raise ConfigurationError("fault", fault, "only one of status, hang, reset and half")
    if not any(kinds) and not fault.delay:
        raise ConfigurationError("fault", fault, "one of status, hang, reset, half and delay")


def _check_retry_after(value: object) -> None:
    if value is None or _is_int(value):
        return
    # It becomes a header: a line break would start another one.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigurationError("retry_after", value, "seconds or an HTTP date")


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 86400


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
