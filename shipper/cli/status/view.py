"""The status as text for people: the worst first, then the numbers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

from ...report import BackendStatus, Status, total
from .. import terminal
from ..terminal import coloured, count, duration, plural, size
from .diagnosis import COLOURS, WORDS, Finding, diagnose, severity
from .notes import notes

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def text(found: Sequence[Status], *, colours: bool = False, now: float | None = None) -> str:
    """The text for one app in full; for several, a line each and a table."""
    now = time.time() if now is None else now
    lines = _one(found[0], colours, now) if len(found) == 1 else _several(found, colours, now)
    return "\n".join(lines)


def show(found: Sequence[Status], *, in_place: bool = False) -> None:
    """Print the statuses; ``in_place`` clears the screen before, if stdout is a terminal."""
    clear = _CLEAR if in_place and terminal.is_terminal() else ""
    print(f"{clear}{text(found, colours=terminal.is_coloured())}", flush=True)


def headline(status: Status, findings: Sequence[Finding], *, colours: bool = False) -> str:
    """The worst finding, with its remedy, in one line."""
    worst = severity(findings)
    word = coloured(WORDS[worst], COLOURS[worst], wanted=colours)
    return f"{coloured(status.app, 'bold', wanted=colours)}: {word} - {findings[0]}"


def _several(found: Sequence[Status], colours: bool, now: float) -> Iterator[str]:
    for status in found:
        yield headline(status, diagnose(status, now), colours=colours)
    yield ""
    header = ("app", "pid", "came in", "left", "dropped", "dead")
    yield from terminal.table(header, [_row(status) for status in found], left=2)
    yield ""
    yield "`shipper status --app NAME` tells more of one of them."


def _row(status: Status) -> tuple[str, ...]:
    dead = sum(backend.dead for backend in status.backends)
    dropped = status.total_dropped + sum(total(backend.dropped) for backend in status.backends)
    pid = str(status.pid) if status.running else "not running"
    return (status.app, pid, count(status.journaled), count(status.left), count(dropped), count(dead))


def _one(status: Status, colours: bool, now: float) -> Iterator[str]:
    yield from _findings(status, diagnose(status, now), colours)
    yield ""
    yield from terminal.facts(_facts(status, now))
    if status.backends:
        yield ""
        yield from _backends(status, now)
    said = list(notes(status, now))
    if said:
        yield ""
        yield from said


def _findings(status: Status, findings: Sequence[Finding], colours: bool) -> Iterator[str]:
    yield headline(status, findings, colours=colours)
    for finding in findings[1:]:
        yield f"  also: {finding}"


def _facts(status: Status, now: float) -> Iterator[tuple[str, str]]:
    state = "does not run"
    if status.running:
        began = f" for {duration(now - status.started)}" if status.started else ""
        state = f"runs{began}, pid {status.pid}" if status.pid else "is starting"
    yield "shipper process", state
    yield "came in", f"{plural(status.journaled, 'event')}{_in_memory(status)}"
    quota = f" of {size(status.quota)}" if status.quota > 0 else ""
    yield "journal", f"{size(status.journal_bytes)}{quota} in {plural(status.segments, 'segment')}"
    if status.updated is not None:
        yield "status written", terminal.moment(status.updated, now)
    yield "spool", status.spool


def _in_memory(status: Status) -> str:
    return f"; {count(status.in_memory)} more in memory, not in the journal yet" if status.in_memory else ""


def _backends(status: Status, now: float) -> Iterator[str]:
    header = ("backend", "state", "delivered", "left", "lag", "retried", "dead", "filtered")
    rows = []
    for each in status.backends:
        numbers = (count(each.retried), count(each.dead), count(each.filtered))
        lag = duration(each.lag) if each.left else "-"
        rows.append((each.name, each.state, count(each.delivered), count(each.left), lag, *numbers))
    yield from terminal.table(header, rows, left=2)
    for each in status.backends:
        yield from _details(each, now)


def _details(backend: BackendStatus, now: float) -> Iterator[str]:
    if backend.url:
        level = logging.getLevelName(backend.level) if backend.level else "every level"
        yield f"{backend.name}: {backend.url}, events from {level} on"
    if backend.next_try is not None and backend.next_try > now:
        yield f"{backend.name}: the next attempt is in {duration(backend.next_try - now)}"
    if backend.last_error:
        when = "" if backend.last_error_at is None else f", {terminal.moment(backend.last_error_at, now)}"
        yield f"{backend.name}: last error{when}: {backend.last_error}"
