"""A Status as a person reads it: one that is calm when all is well, and names what is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ...report import BackendStatus, Status, total

CALM = ("idle", "delivering", "stopped")
_NARROW = 100  # columns that a table gets when nobody says how many there are


def show(found: Sequence[Status]) -> None:
    console().print(view(found))


def watch(look: Callable[[], list[Status]], pause: float) -> NoReturn:
    """Show it again every ``pause`` seconds, in place where there is a terminal, until KeyboardInterrupt."""
    out = console()
    waiting = threading.Event()
    if not out.is_terminal:
        while True:
            out.print(view(look()))
            waiting.wait(pause)
    with Live(view(look()), console=out, auto_refresh=False) as live:
        while True:
            waiting.wait(pause)
            live.update(view(look()), refresh=True)


def console() -> Console:
    """stdout; a pipe or a file is no reason to break lines that a screen would hold."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=max(made.width, _NARROW))


def view(found: Sequence[Status]) -> RenderableType:
    """One app in full, several in a line each."""
    return one(found[0]) if len(found) == 1 else several(found)


def several(found: Sequence[Status]) -> RenderableType:
    table = _table("app", "pid", "came in", "left", "dropped", "dead", left=2)
    for each in found:
        dead = sum(backend.dead for backend in each.backends)
        pid = str(each.pid) if each.running else "not running"
        table.add_row(each.app, pid, *map(_count, (each.journaled, each.left, _dropped(each), dead)))
    return Group(table, Text("\n`shipper status --app NAME` tells more of one of them."))


def one(status: Status) -> RenderableType:
    parts: list[RenderableType] = [_heading(status), Text(""), _backends(status)]
    if status.trouble:
        parts += [Text(""), Text(f"The disk says: {status.trouble}. Events wait in memory meanwhile.", style="red")]
    if status.dropped:
        parts += [Text(""), _drops(status.dropped)]
    parts += [Text(""), *map(Text, sentences(status))]
    return Group(*parts)


def _heading(status: Status) -> Text:
    began = f" for {duration(time.time() - status.started)}" if status.running and status.started else ""
    state = f"running{began}, pid {status.pid}" if status.running else "not running"
    came = _plural(status.journaled, "event")
    journal = f"journal {size(status.journal_bytes)} in {_plural(status.segments, 'segment')}"
    text = Text.assemble((status.app, "bold"), " · ", (state, "green" if status.running else "yellow"))
    return text.append(f"\n{came} came in · {journal}\n{status.spool}")


def _backends(status: Status) -> RenderableType:
    if not status.backends:
        return Text("No backend has taken anything from it yet.")
    table = _table("backend", "state", "delivered", "left", "lag", "retried", "dead", "filtered", left=2)
    for each in status.backends:
        counts = map(_count, (each.retried, each.dead, each.filtered))
        lag = duration(each.lag) if each.left else "-"
        table.add_row(each.name, _state(each), _count(each.delivered), _count(each.left), lag, *counts)
    errors = [Text(f"Last error of {each.name}: {each.last_error}") for each in status.backends if each.last_error]
    return Group(table, *errors)


def _state(backend: BackendStatus) -> Text:
    return Text(backend.state, style="" if backend.state in CALM else "yellow")


def _drops(dropped: Mapping[str, Mapping[str, int]]) -> Table:
    found = {level for counts in dropped.values() for level in counts}
    levels = [*(level for level in _LEVELS if level in found), *sorted(found - {*_LEVELS})]
    table = _table("dropped because", *levels, left=1)
    for reason, counts in sorted(dropped.items()):
        table.add_row(reason, *(_count(counts.get(level, 0)) for level in levels))
    return table


_LEVELS = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _table(*columns: str, left: int) -> Table:
    """Columns of numbers, but for the first ``left`` ones."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=number < left)
    return table


def sentences(status: Status) -> Iterator[str]:
    """What to take away: what was lost, each with its reason, else that nothing was; then what is still to be done."""
    if status.updated is None:
        soon = ", and is written anew every second" if status.running else ""
        yield f"It is not known how it does: {status.spool}/status.json is missing or damaged{soon}."
        return
    for pid, logger in status.detached.items():
        yield (
            f"Process {pid} ships nothing from the logger {logger!r}: its handler was removed after start(). Call "
            "start() again after logging is configured, or pass keep_attached=True."
        )
    yield from list(_losses(status)) or ["Nothing is lost."]
    for backend in status.backends:
        if backend.left:
            yield _waiting(status, backend)
    unaccepted = status.missing - status.total_dropped
    if unaccepted > 0:
        yield f"{_plural(unaccepted, 'record')} on their way, or not accepted when their process was killed."
    if status.corrupt:
        yield f"{_plural(status.corrupt, 'stretch', 'stretches')} of damaged bytes, kept in {status.spool}/damaged."


def _losses(status: Status) -> Iterator[str]:
    if status.dropped:
        yield f"{_were(status.total_dropped, 'event')} dropped: {reasons(status.dropped)}."
    for backend in status.backends:
        if backend.dropped:
            yield f"{_were(total(backend.dropped), 'event')} given up for {backend.name}: {reasons(backend.dropped)}."
        if backend.dead:
            letters = f"{status.spool}/dead/{backend.name}.ndjson"
            yield f"{_were(backend.dead, 'event')} refused by {backend.name}, kept in {letters}."


def _waiting(status: Status, backend: BackendStatus) -> str:
    events = _plural(backend.left, "event")
    if backend.state == "not configured":
        return f"{events} wait for {backend.name}, which nobody has configured any more."
    if not status.running:
        return f"{events} wait for {backend.name}, until the app is started again."
    if backend.state == "unauthorised":
        return f"{events} wait for {backend.name}: it refuses the credentials, a person has to mend them."
    if backend.state == "retrying":
        return f"{events} wait for {backend.name}, which is tried again and again."
    return f"{events} on their way to {backend.name}."


def reasons(dropped: Mapping[str, Mapping[str, int]]) -> str:
    """``queue_full (DEBUG 3, INFO 1), redact (ERROR 1)``."""
    return ", ".join(
        f"{reason} ({', '.join(f'{level} {_count(count)}' for level, count in counts.items())})"
        for reason, counts in sorted(dropped.items())
    )


def _dropped(status: Status) -> int:
    return status.total_dropped + sum(total(backend.dropped) for backend in status.backends)


def _count(number: int) -> str:
    return f"{number:,}"


def _plural(number: int, thing: str, things: str = "") -> str:
    return f"{_count(number)} {thing if number == 1 else things or thing + 's'}"


def _were(number: int, thing: str) -> str:
    return f"{_plural(number, thing)} {'was' if number == 1 else 'were'}"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``5.1 h``, ``2.3 d``."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def size(count: int) -> str:
    """``17 B``, ``1.2 KiB``, ``16.0 MiB``."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"
