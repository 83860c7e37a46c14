"""How the demo is shown: progress bars in a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from .outcome import SERVICES, Outcome

TITLES = {"trakerr": "Trakerr", "jkool": "jKool"}
WIDTH = 100  # columns, without a terminal
PROGRESS = 2.0  # seconds between two lines of progress, without a terminal


def _console() -> Console:
    """A console on stdout; without a terminal it has at least `WIDTH` columns, so that few lines are broken."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, WIDTH))


@contextlib.contextmanager
def display(records: int) -> Iterator[_Lines | _Bars]:
    """The display of a demo of about ``records`` records: bars in a terminal, lines elsewhere."""
    out = _console()
    if not out.is_terminal:
        yield _Lines(out, records)
        return
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), console=out
    )
    with bars:
        yield _Bars(bars, records)


class _Lines:
    def __init__(self, out: Console, records: int) -> None:
        self._out = out
        self._records = records
        self._began = time.monotonic()
        self._shown_at = self._began

    def line(self, text: str) -> None:
        self._out.print(f"{time.monotonic() - self._began:5.1f} s  {text}", soft_wrap=True, markup=False)

    def progress(self, emitted: int, delivered: dict[str, int]) -> None:
        now = time.monotonic()
        if now - self._shown_at < PROGRESS:
            return
        self._shown_at = now
        at = ", ".join(f"{count} at {TITLES[service]}" for service, count in delivered.items())
        self.line(f"  {emitted} of about {self._records} emitted, {at}")


class _Bars:
    def __init__(self, bars: Progress, records: int) -> None:
        self._bars = bars
        self._began = time.monotonic()
        self._emitted = bars.add_task("emitted", total=records)
        self._delivered: dict[str, TaskID] = {
            service: bars.add_task(f"at {TITLES[service]}", total=records) for service in SERVICES
        }

    def line(self, text: str) -> None:
        self._bars.console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {text}")

    def progress(self, emitted: int, delivered: dict[str, int]) -> None:
        self._bars.update(self._emitted, completed=emitted)
        for service, count in delivered.items():
            self._bars.update(self._delivered[service], completed=count)


def show_outcome(outcome: Outcome) -> None:
    """Print the table of numbers, and a sentence about them."""
    out = _console()
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0), pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in _rows(outcome):
        table.add_row(name, f"{count:,}")
    color = "red" if outcome.lost else "green"
    table.add_row(f"[bold {color}]lost", f"[bold {color}]{outcome.lost:,}")
    out.print()
    out.print(table)
    out.print()
    out.print(sentence(outcome), soft_wrap=True)


def _rows(outcome: Outcome) -> Iterator[tuple[str, int]]:
    yield "emitted", outcome.emitted
    for service, count in outcome.delivered.items():
        yield f"delivered to {TITLES[service]}", count
    yield "retried", outcome.retried
    yield "duplicates", outcome.duplicates
    yield "dropped", outcome.dropped
    if outcome.left:
        yield "still in the journal", outcome.left


def sentence(outcome: Outcome) -> str:
    took = f"{outcome.seconds:.1f} seconds"
    if outcome.is_good:
        more = f" ({outcome.unfinished} more arrived: a worker was killed before its logging call had returned.)"
        return f"Every record is at both services, after {took}.{more if outcome.unfinished else ''}"
    if outcome.left and not outcome.lost:
        fewer = max(outcome.emitted // 4, 4)
        busy = f"this machine is too busy for so many. Try --records {fewer}."
        return f"After {took} {outcome.left} records were still in the journal, on their way: {busy}"
    if outcome.emitted == 0:
        return f"Nothing was logged in {took}."
    return f"This should not have happened: please tell us. It took {took}."
