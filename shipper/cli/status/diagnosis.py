"""What is wrong with an app's shipper, worst first, each with its remedy: the status in words.

Severities are the exit codes of `shipper status --check`:

0  healthy      what comes in is delivered
1  degraded     events wait, nothing is lost; it may pass by itself
2  failing      events were lost in the last ten minutes, or nothing is delivered until a person acts
3  not running  no shipper process runs
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...report import BackendStatus, Status
from ..terminal import count, duration, moment, plural, size, wait, were

HEALTHY, DEGRADED, FAILING, NOT_RUNNING = range(4)
WORDS = ("healthy", "degraded", "failing", "not running")
WORST_FIRST = (FAILING, NOT_RUNNING, DEGRADED, HEALTHY)
COLOURS = ("green", "yellow", "red", "yellow")

OLD_SECONDS = 3.0  # age of a status file that a process writes at least once a second
RECENT_SECONDS = 600.0  # for this long after a loss, an app is "failing"
SLOW_SECONDS = 60.0  # lag above which a backend that takes events is slow
LATE_SECONDS = 5.0  # lag above which it is mentioned for events on the way
NEAR_QUOTA = 0.8  # share of the quota above which a journal is a finding while events wait

_VARIABLES = {"trakerr": ("SHIPPER_TRAKERR_API_KEY", "SHIPPER_TRAKERR_URL"),
              "jkool": ("SHIPPER_JKOOL_TOKEN", "SHIPPER_JKOOL_URL")}  # fmt: skip
_PERHAPS_GZIP = ("HTTP 400", "HTTP 415")  # a service that takes no gzip answers so
_REDIRECT = re.compile(r"HTTP 3\d\d.*?'([^']*)'")  # what `backends.http.status` says of a redirect
_HANDSHAKE = re.compile(r"handshake: .*HTTP (?!401|403|407)\d{3}")  # a refusal that does not name the credentials


@dataclass(frozen=True)
class Finding:
    """One thing to know: how bad it is, a text about it, and what to do about it ("" when nothing)."""

    severity: int
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".rstrip()


def diagnose(status: Status, now: float | None = None) -> list[Finding]:
    """Everything there is to know, worst first; at least one finding. ``now``: seconds since the epoch."""
    now = time.time() if now is None else now
    found = [*_process(status, now), *_detached(status), *_disk(status), *_drops(status, now)]
    for backend in status.backends:
        found += _backend(status, backend, now)
    found.sort(key=lambda finding: WORST_FIRST.index(finding.severity))
    return found or [Finding(HEALTHY, _all_well(status))]


def severity(findings: Sequence[Finding]) -> int:
    """The worst severity of the findings; `HEALTHY` without any."""
    return min((finding.severity for finding in findings), key=WORST_FIRST.index, default=HEALTHY)


def _all_well(status: Status) -> str:
    on_the_way = status.left + status.in_memory
    if on_the_way:
        return f"{plural(on_the_way, 'event is', 'events are')} on the way{_late(status)}."
    return "Everything that came in is delivered." if status.journaled else "No event has come in yet."


def _late(status: Status) -> str:
    late = max(status.backends, key=lambda each: each.lag, default=None)
    if late is None or late.lag < LATE_SECONDS:
        return ""
    return f", the oldest for {duration(late.lag)} (to {late.name})"


# -- the process -----------------------------------------------------------------------------------------------------


def _process(status: Status, now: float) -> Iterator[Finding]:
    age = None if status.updated is None else now - status.updated
    if status.crashes:
        log = f"{status.spool}/shipper.log"
        yield Finding(
            FAILING,
            f"The shipper process has crashed {plural(status.crashes, 'time')} in a row"
            f"{f': {status.crash_reason}' if status.crash_reason else ''}; events wait.",
            f"See {log} for the reason, correct it and restart the application.",
        )
    elif not status.running:
        yield _not_running(status, age, now)
    elif age is None and not status.pid:
        remedy = f"If this stays, see the application's stderr and {status.spool}/shipper.log."
        yield Finding(DEGRADED, "The shipper process is starting, and has written no status yet.", remedy)
    elif age is None:
        yield Finding(
            DEGRADED,
            f"It is not known how it does: {status.spool}/status.json is missing or damaged.",
            "It is written again within a second; if this stays, see shipper.log beside it.",
        )
    elif age > OLD_SECONDS:
        yield _hanging(status, age)


def is_old(status: Status, now: float) -> bool:
    """Whether the process runs, but its status is missing or older than `OLD_SECONDS`, so that it may be wrong."""
    return status.running and (status.updated is None or now - status.updated > OLD_SECONDS)


def _not_running(status: Status, age: float | None, now: float) -> Finding:
    if status.updated is None or age is None:
        known = f"; {wait(status.in_memory, 'event')} in memory" if status.in_memory else ""
        return Finding(
            NOT_RUNNING,
            f"No shipper process runs, and its status is missing or damaged: it is not known what is left{known}.",
            "Start the application; if it runs, its stderr says why it starts no shipper process.",
        )
    since = moment(status.updated, now)
    waiting = status.left + status.in_memory
    if not waiting:
        return Finding(NOT_RUNNING, f"No shipper process runs, since {since}; everything that came in was delivered.")
    left = f"{wait(waiting, 'event')} for the next start."
    if paused := [each.name for each in status.backends if each.state == "paused" and each.left]:
        left = f"{wait(waiting, 'event')}, and {paused[0]} is paused."
        remedy = f"Start the application, and `shipper resume {paused[0]} --app {status.app}`."
        return Finding(NOT_RUNNING, f"No shipper process runs, since {since}; {left}", remedy)
    if status.ended:
        return Finding(NOT_RUNNING, f"No shipper process runs, since {since}; {left}", "Start the application.")
    return Finding(
        NOT_RUNNING,
        f"The shipper process is gone without having finished, since {since}; {left}",
        "Start the application; one that runs starts another shipper process by itself within seconds.",
    )


def _hanging(status: Status, age: float) -> Finding:
    what = f"The shipper process (pid {status.pid}) has written no status for {duration(age)}"
    if _process_state(status.pid) == "T":
        remedy = f"Continue it with `kill -CONT {status.pid}`; meanwhile events wait in memory."
        return Finding(DEGRADED, f"{what}: it is stopped (SIGSTOP). What follows is as old.", remedy)
    return Finding(
        DEGRADED,
        f"{what}: it hangs, or the machine is very busy. What follows is as old.",
        f"If this stays, `kill -9 {status.pid}`: the application starts another one, which goes on from the journal.",
    )


def _process_state(pid: int | None) -> str:
    """The kernel's letter for the state of a process: R, S, D, T …; "" when unknown."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _detached(status: Status) -> Iterator[Finding]:
    for pid, logger in status.detached.items():
        yield Finding(
            FAILING,
            f"Process {pid} ships nothing from the logger {logger!r}: its handler was removed after start().",
            "Call start() again after logging is configured, or pass keep_attached=True.",
        )


# -- disk and drops --------------------------------------------------------------------------------------------------


def _disk(status: Status) -> Iterator[Finding]:
    if status.left and 0 < status.quota * NEAR_QUOTA < status.journal_bytes:
        yield Finding(
            DEGRADED,
            f"The journal has {size(status.journal_bytes)} of its quota of {size(status.quota)}: at the quota, events "
            "are given up.",
            "Correct what keeps the backend from taking events, or raise SHIPPER_SPOOLING_QUOTA.",
        )
    if not status.trouble:
        return
    waiting = f"; {wait(status.in_memory, 'event')} in memory" if status.in_memory else "; events wait in memory"
    yield Finding(
        DEGRADED,
        f"The disk takes no events: {status.trouble}{waiting}.",
        f"Make room in {status.spool}; delivery goes on by itself then.",
    )


_REMEDIES: Mapping[str, str] = {
    "queue_full": "The journal's disk is full or too slow: make room, log less, or raise SHIPPER_OVERFLOW.",
    "spool_full": "Disk and memory were full when the application ended: make room.",
    "before_send": "before_send returned None, raised, or was too slow: see the application's stderr.",
    "redact": "Masking failed, so they were not sent: see the application's stderr.",
    "after_stop": "They were logged after shipper.stop(): stop later, or start() again.",
    "failed": "They could not be packed: see the application's stderr.",
    "not_started": "More than 1000 events came before shipper.start(): call it earlier.",
    "quota": "The journal is at its quota: raise SHIPPER_SPOOLING_QUOTA, or see why the backend takes so little.",
    "incomplete": "Their processes were killed inside the logging call.",
    "refused_by_receiver": "The collector accepted the request and rejected them: see last_error, and its log.",
}


def _drops(status: Status, now: float) -> Iterator[Finding]:
    recent = {
        reason: levels
        for reason, levels in status.dropped.items()
        if now - status.dropped_at.get(reason, 0.0) <= RECENT_SECONDS
    }
    for reason, levels in sorted(recent.items(), key=lambda item: -sum(item[1].values())):
        what = f"{were(sum(levels.values()), 'event')} dropped ({reason}: {by_level(levels)}), the last one at "
        yield Finding(FAILING, f"{what}{moment(status.dropped_at[reason], now)}.", _REMEDIES.get(reason, ""))


def by_level(levels: Mapping[str, int]) -> str:
    """Numbers by level as text: ``DEBUG 3, INFO 1``."""
    return ", ".join(f"{level} {count(number)}" for level, number in levels.items())


# -- backends --------------------------------------------------------------------------------------------------------


def _backend(status: Status, backend: BackendStatus, now: float) -> Iterator[Finding]:
    explain = _STATES.get(backend.state)
    if explain is not None:
        yield explain(status, backend, now)
    elif status.running and backend.left and backend.lag > SLOW_SECONDS:
        yield Finding(
            DEGRADED,
            f"{backend.name} is slow: {wait(backend.left, 'event')}, the oldest for {duration(backend.lag)}.",
            "If this stays, raise the level of what is sent there, or max_in_flight.",
        )
    yield from _given_up(backend, now)
    if backend.dead_letters:
        yield Finding(
            DEGRADED,
            f"{were(backend.dead_letters, 'event')} refused by {backend.name} and "
            f"{'is kept as a dead letter' if backend.dead_letters == 1 else 'are kept as dead letters'}.",
            f"See `shipper dead list --app {status.app}`; correct the reason, then `shipper dead replay` or `purge`.",
        )


def _given_up(backend: BackendStatus, now: float) -> Iterator[Finding]:
    for reason, levels in backend.dropped.items():
        at = backend.dropped_at.get(reason)
        if at is not None and now - at <= RECENT_SECONDS:
            what = f"{were(sum(levels.values()), 'event')} given up for {backend.name} ({reason}: {by_level(levels)})"
            yield Finding(FAILING, f"{what}, the last one at {moment(at, now)}.", _REMEDIES.get(reason, ""))


def _waiting(backend: BackendStatus) -> str:
    return f"{wait(backend.left, 'event')}." if backend.left else "No event waits."


def _since(backend: BackendStatus, now: float) -> str:
    return "" if backend.since is None else f" since {moment(backend.since, now)}"


def _unauthorised(status: Status, backend: BackendStatus, now: float) -> Finding:
    secret, url = _VARIABLES.get(backend.name, ("its key or token", "its url"))
    redirect = _REDIRECT.search(backend.last_error)
    if redirect is not None:
        return Finding(
            FAILING,
            f"{backend.name} redirects to {redirect[1] or 'another address'}{_since(backend, now)}, which is not "
            f"followed. {_waiting(backend)}",
            f"Set {url} to the address that is right, and restart the application.",
        )
    what, remedy = f"{backend.name} refuses the credentials", f"Correct {secret}"
    if _HANDSHAKE.match(backend.last_error):
        what, remedy = f"{backend.name} refuses the connection", f"Check {url} first, then {secret}; correct it"
    elif "HTTP 407" in backend.last_error:
        what = f"The proxy in front of {backend.name} refuses its credentials"
        remedy = "Correct user and password in the proxy's URL (https_proxy, http_proxy)"
    return Finding(
        FAILING,
        f"{what} ({backend.last_error or 'HTTP 401'}){_since(backend, now)}. {_waiting(backend)}",
        f"{remedy} and restart the application; meanwhile events wait in the journal.",
    )


def _refused(status: Status, backend: BackendStatus, now: float) -> Finding:
    _, url = _VARIABLES.get(backend.name, ("", "its url"))
    at = f" at {backend.url}" if backend.url else ""
    gzip = ", and whether the service takes gzip (if not: compress=False)"
    cause = url + gzip if backend.last_error.startswith(_PERHAPS_GZIP) else url
    return Finding(
        FAILING,
        f"{backend.name} refuses every event ({backend.last_error or 'HTTP 4xx'}){at}{_since(backend, now)}. "
        f"{_waiting(backend)}",
        f"Check {cause}; correct it and restart the application; meanwhile events wait in the journal.",
    )


def _retrying(status: Status, backend: BackendStatus, now: float) -> Finding:
    reason = f": {backend.last_error}" if backend.last_error else ""
    return Finding(
        DEGRADED,
        f"{backend.name} does not take events{_since(backend, now)}{reason}. {_waiting(backend)}",
        "Nothing to do unless this stays; then `shipper check` finds the reason.",
    )


def _not_configured(status: Status, backend: BackendStatus, now: float) -> Finding:
    if not backend.left:
        return Finding(HEALTHY, f"{backend.name} is no longer configured; nothing waits for it.")
    return Finding(
        DEGRADED,
        f"{backend.name} is no longer configured. {_waiting(backend)}",
        f"Configure it again, or delete cursors/{backend.name}.json in the spool to give them up.",
    )


def _paused(status: Status, backend: BackendStatus, now: float) -> Finding:
    quota = f" of its quota of {size(status.quota)}, at which events are given up" if status.quota > 0 else ""
    held = f" The journal has {size(status.journal_bytes)}{quota}." if backend.left else ""
    return Finding(
        DEGRADED,
        f"{backend.name} is paused{_since(backend, now)}, by `shipper pause`: it is sent nothing. "
        f"{_waiting(backend)}{held}",
        f"When it may be sent to again: `shipper resume {backend.name} --app {status.app}`.",
    )


_STATES: Mapping[str, Callable[[Status, BackendStatus, float], Finding]] = {
    "paused": _paused,
    "unauthorised": _unauthorised,
    "refused": _refused,
    "retrying": _retrying,
    "not configured": _not_configured,
}
